"""Makes the bucket of an `s3://bucket/…` address, unless it is there: `make_bucket.py ADDRESS`."""

import sys
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

address = urlsplit(sys.argv[1] if len(sys.argv) > 1 else "")
if address.scheme != "s3" or not address.netloc:
    sys.exit(f"{address.geturl() or 'nothing'} is no s3://BUCKET/…; set MLFLOW_ARTIFACTS in .env")
client = boto3.client("s3")
try:
    client.head_bucket(Bucket=address.netloc)
except ClientError as error:
    if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
        raise
    client.create_bucket(Bucket=address.netloc)
