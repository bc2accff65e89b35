"""The main job: a network trained on real data, pruned, compiled, checked and measured."""
