//! Opening a storage URL.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

use super::{LocalFolder, ObjectError, Objects};

/// How to reach an S3-compatible store; what is absent comes from the usual `AWS_*` environment variables.
#[derive(Clone, Default)]
pub struct S3Options {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key: Option<String>,
    pub secret_key: Option<String>,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets are never shown.
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Objects {
    /// Opens `file:///folder`, `s3://bucket/prefix` or `memory:///`. A bucket must exist; a folder is created.
    pub fn open(url: &str, s3: &S3Options) -> Result<Self, ObjectError> {
        let bad = |reason: String| ObjectError::BadUrl { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|e| bad(format!("{e}; use file:///folder or s3://bucket/prefix")))?;
        match parsed.scheme() {
            "file" => {
                let folder = parsed.to_file_path().map_err(|()| bad("use file:/// and an absolute path".to_owned()))?;
                Self::open_folder(folder)
            }
            "s3" => Self::open_s3(url, &parsed, s3),
            "memory" => Ok(Self::memory()),
            other => Err(bad(format!("`{other}` is not supported; use file:///folder or s3://bucket/prefix"))),
        }
    }

    /// Opens a local folder, creating it if it is missing.
    pub fn open_folder(folder: PathBuf) -> Result<Self, ObjectError> {
        let url = format!("file://{}", folder.display());
        let bad = |reason: String| ObjectError::BadUrl { url: url.clone(), reason };
        let writer = LocalFolder::open(folder.clone()).map_err(|e| bad(e.to_string()))?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|e| bad(e.to_string()))?;
        Ok(Objects { store: Arc::new(store), folder: Some(writer), prefix: Path::default(), url })
    }

    fn open_s3(url: &str, parsed: &Url, options: &S3Options) -> Result<Self, ObjectError> {
        let bad = |reason: String| ObjectError::BadUrl { url: url.to_owned(), reason };
        let bucket = parsed.host_str().ok_or_else(|| bad("the bucket is missing: s3://bucket/prefix".to_owned()))?;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        if let Some(endpoint) = &options.endpoint {
            let plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(plain).with_virtual_hosted_style_request(false);
        }
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        if let (Some(access), Some(secret)) = (&options.access_key, &options.secret_key) {
            builder = builder.with_access_key_id(access).with_secret_access_key(secret);
        }
        let store = builder.build().map_err(|e| bad(e.to_string()))?;
        let prefix = Path::parse(parsed.path().trim_matches('/')).map_err(|e| bad(e.to_string()))?;
        Ok(Objects { store: Arc::new(store), folder: None, prefix, url: url.to_owned() })
    }
}
