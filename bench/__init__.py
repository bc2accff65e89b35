"""How fast, against whom: side-by-side timings with outputs checked first."""
