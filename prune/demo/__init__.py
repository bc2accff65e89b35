"""The demo's job: name the motion of a handwritten digit in a short clip, dense and pruned."""
