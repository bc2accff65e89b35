"""The front door: capture, plan, compile, run, check and explain sparse networks."""
