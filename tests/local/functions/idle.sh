#!/bin/sh
# A runtime that leaves its part to the test.
echo "Runtime API: $AWS_LAMBDA_RUNTIME_API of $$"
exec sleep 600
