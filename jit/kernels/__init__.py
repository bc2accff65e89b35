"""The kernels: for each family what it computes, as naive loops, and what one compiled copy fixes."""
