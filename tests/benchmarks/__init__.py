"""Speed and memory, each as a figure with its goal: `python -m tests.benchmarks [NAME ...]`."""
