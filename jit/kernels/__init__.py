"""The kernels: what each family computes, as naive loops, and what one compiled copy fixes."""
