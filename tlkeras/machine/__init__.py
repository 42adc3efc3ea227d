"""The computer: its devices, its processes, and private names of Keras."""
