"""What awslambdaric 4.1.0 and 4.2.0 do on Managed Instances: import the handler, then fork the workers."""

import os

from awslambdaric import bootstrap
from awslambdaric.lambda_runtime_client import LambdaMultiConcurrentRuntimeClient

handler, address = os.environ["_HANDLER"], os.environ["AWS_LAMBDA_RUNTIME_API"]
find = bootstrap._get_handler
find(handler)
if os.environ.get("FINDS_IT_ANOTHER_WAY"):
    bootstrap._get_handler = find
for _ in range(2):
    if not os.fork():
        bootstrap.run(handler, LambdaMultiConcurrentRuntimeClient(address, False))
for _ in range(2):
    os.wait()
