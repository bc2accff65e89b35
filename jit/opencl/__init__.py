"""OpenCL C for mobile GPUs: the emitter and its runtime."""
