//! The settings of an object store as a person meets them.

use super::{Field, Reach, TakesEffect};

/// Where files lie.
pub(super) const FILES: Field = Field {
    key: "files",
    value: "URL",
    doc: "Where uploaded files lie: `s3://BUCKET` or `s3://BUCKET/PREFIX` is an object store that speaks S3, which all gateways of a database share. Without it they lie in \
          the folder `files` of the data directory. What is uploaded passes through that folder in both cases. See docs/operations.md.",
    default: "",
    range: "s3://BUCKET or s3://BUCKET/PREFIX",
    reach: Reach::Everywhere,
    change: TakesEffect::Restart,
};

/// At which address.
pub(super) const S3_ENDPOINT: Field = Field {
    key: "s3_endpoint",
    value: "URL",
    doc: "Where that object store is. Without it, Amazon's in s3_region. TLS is verified by the system's authorities (`SSL_CERT_FILE` names others).",
    default: "",
    range: "http://HOST or https://HOST, with a port and a path if need be",
    reach: Reach::Everywhere,
    change: TakesEffect::Restart,
};

/// In which region.
pub(super) const S3_REGION: Field = Field {
    key: "s3_region",
    value: "NAME",
    doc: "The region of the bucket, which requests are signed for. Servers of one's own have one, too: `us-east-1` unless it was set, `garage` for Garage.",
    default: r#""us-east-1""#,
    range: "1 to 64 letters, digits or `-`",
    reach: Reach::Everywhere,
    change: TakesEffect::Restart,
};

/// By which key.
pub(super) const S3_ACCESS_KEY: Field = Field {
    key: "s3_access_key",
    value: "TEXT",
    doc: "The name of the key. It wants to list the bucket, and to read, write and delete objects in it. `s3_access_key_file` names a file that holds it instead.",
    default: "",
    range: "1 to 256 characters of ASCII",
    reach: Reach::NoFlag,
    change: TakesEffect::Restart,
};

/// With which secret.
pub(super) const S3_SECRET_KEY: Field = Field {
    key: "s3_secret_key",
    value: "TEXT",
    doc: "The secret of the key. `s3_secret_key_file` names a file that holds it instead.",
    default: "",
    range: "1 to 256 characters of ASCII",
    reach: Reach::NoFlag,
    change: TakesEffect::Restart,
};

/// How it is called.
pub(super) const S3_PATH_STYLE: Field = Field {
    key: "s3_path_style",
    value: "BOOL",
    doc: "Whether the bucket is the first part of the path, which every server understands, or a part of the host's name (`false`).",
    default: "true",
    range: "true, false",
    reach: Reach::Everywhere,
    change: TakesEffect::Restart,
};
