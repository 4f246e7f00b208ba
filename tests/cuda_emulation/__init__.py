"""The CUDA path without a GPU: real host code, real PTX, every access checked. See README.md."""
