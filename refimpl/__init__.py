"""What everything means: the forms of a network and their naive NumPy interpretation."""
