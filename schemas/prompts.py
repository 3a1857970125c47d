"""prompts: captions to paint. Key: (file, row)."""

import pyarrow as pa

NAME = "prompts"
SCHEMA = pa.schema([pa.field("idx", pa.string()), pa.field("text", pa.string())])
