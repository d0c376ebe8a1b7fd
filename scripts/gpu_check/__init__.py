"""One pass over everything that waits for a GPU: see scripts/gpu_check.sh."""
