"""How a network gets thin: masks found and kept on torch modules."""
