"""Unsigned: signing (sigv4) needs the secret itself, which is not there."""

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from shop import BASE, BULK, digest, tell

# The shop takes bodies as they are, not in AWS' own chunks with a checksum behind.
config = Config(
    signature_version=UNSIGNED,
    request_checksum_calculation="when_required",
    s3={"addressing_style": "path"},
)
s3 = boto3.client("s3", endpoint_url=f"{BASE}/s3", region_name="nowhere-1", config=config)
for bucket in ("bucket", "far"):
    s3.put_object(Bucket=bucket, Key="small", Body=b"hello")
small = s3.get_object(Bucket="bucket", Key="small")["Body"].read().decode()
# A bucket of another region: S3 moves who asks there, and boto3 asks again.
far = s3.get_object(Bucket="far", Key="small")["Body"].read().decode()
# In parts, several at a time; not back like this, since parts of answers are not passed on (decision 0008).
s3.upload_file(BULK, "bucket", "bulk")
tell("download", digest(s3.get_object(Bucket="bucket", Key="bulk")["Body"].iter_chunks(1 << 18)))
tell("own", f"{small} {far}")
