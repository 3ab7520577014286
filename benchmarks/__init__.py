"""What the adapter costs, beside Mangum under the same awslambdaric: ``python -m benchmarks``."""
