"""The stages of lowering, one file each: a Program in, a Program out, same meaning.

`jit.pipeline` lists them in order.
"""
