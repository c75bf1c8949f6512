//! A store over another one that keeps what is written to itself.
//!
//! Whoever runs on it runs the very code that publishes, and sees its own writes; the store below sees none. So a
//! rehearsal cannot publish anything by mistake: there is nothing here that could write through.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

#[derive(Debug)]
pub(super) struct Rehearsal {
    below: Arc<dyn ObjectStore>,
    own: InMemory,
}

impl Rehearsal {
    pub(super) fn over(below: Arc<dyn ObjectStore>) -> Self {
        Rehearsal { below, own: InMemory::new() }
    }
}

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rehearsal({})", self.below)
    }
}

fn refused(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "a rehearsal".to_owned() }
}

#[async_trait]
impl ObjectStore for Rehearsal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if opts.mode == PutMode::Create {
            match self.below.head(location).await {
                Ok(_) => {
                    return Err(Error::AlreadyExists {
                        path: location.to_string(),
                        source: "it is in the store below".into(),
                    });
                }
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.own.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("a multipart upload"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.own.get_opts(location, options.clone()).await {
            Err(Error::NotFound { .. }) => self.below.get_opts(location, options).await,
            own => own,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        locations.map(|_| Err(refused("a deletion"))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (own, below) = (self.own.list(prefix), self.below.list(prefix));
        let listing = async move {
            let own: Vec<ObjectMeta> = own.try_collect().await?;
            let hidden: HashSet<Path> = own.iter().map(|meta| meta.location.clone()).collect();
            let shown =
                move |meta: &Result<ObjectMeta>| meta.as_ref().is_ok_and(|meta| hidden.contains(&meta.location));
            let below = below.filter(move |meta| futures::future::ready(!shown(meta)));
            Ok::<_, Error>(futures::stream::iter(own.into_iter().map(Ok)).chain(below))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let own = self.own.list_with_delimiter(prefix).await?;
        let below = self.below.list_with_delimiter(prefix).await?;
        let hidden: HashSet<&Path> = own.objects.iter().map(|meta| &meta.location).collect();
        let kept: Vec<ObjectMeta> = below.objects.into_iter().filter(|meta| !hidden.contains(&meta.location)).collect();
        let prefixes: BTreeSet<Path> = own.common_prefixes.into_iter().chain(below.common_prefixes).collect();
        Ok(ListResult {
            common_prefixes: prefixes.into_iter().collect(),
            objects: own.objects.into_iter().chain(kept).collect(),
        })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("a copy"))
    }
}

#[cfg(test)]
mod tests {
    use crate::objects::{Created, Objects};

    #[tokio::test]
    async fn a_rehearsal_sees_both_and_writes_to_itself_alone() {
        let below = Objects::memory();
        below.create("t/a", "below".into()).await.unwrap();
        below.put("t/copy", "old".into()).await.unwrap();
        let rehearsal = below.rehearsal();
        assert_eq!(rehearsal.create("t/a", "own".into()).await.unwrap(), Created::Taken("below".into()));
        assert_eq!(rehearsal.create("t/b", "own".into()).await.unwrap(), Created::Ours);
        assert_eq!(rehearsal.create("t/b", "other".into()).await.unwrap(), Created::Taken("own".into()));
        rehearsal.put("t/copy", "newer".into()).await.unwrap();
        rehearsal.put("t/deep/c", "own".into()).await.unwrap();
        assert!(rehearsal.delete("t/a").await.is_err(), "a deletion would be forgotten");

        let read = |objects: &Objects, key: &'static str| {
            let objects = objects.clone();
            async move { objects.get(key).await.unwrap().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()) }
        };
        assert_eq!(read(&rehearsal, "t/a").await.as_deref(), Some("below"));
        assert_eq!(read(&rehearsal, "t/copy").await.as_deref(), Some("newer"));
        assert_eq!(read(&below, "t/copy").await.as_deref(), Some("old"));
        assert_eq!(read(&below, "t/b").await, None);
        assert_eq!(rehearsal.get_range("t/copy", 1..3).await.unwrap(), "ew");

        let keys = |objects: Objects| async move {
            let listed = objects.list("t/", None).await.unwrap();
            listed.into_iter().map(|object| (object.key, object.bytes)).collect::<Vec<_>>()
        };
        let named = |keys: &[(&str, u64)]| keys.iter().map(|(key, n)| ((*key).to_owned(), *n)).collect::<Vec<_>>();
        assert_eq!(keys(below).await, named(&[("t/a", 5), ("t/copy", 3)]));
        let own = named(&[("t/a", 5), ("t/b", 3), ("t/copy", 5), ("t/deep/c", 3)]);
        assert_eq!(keys(rehearsal.clone()).await, own, "each once, its own before the one below");
        let folders = rehearsal.store().list_with_delimiter(Some(&"t".into())).await.unwrap();
        assert_eq!((folders.objects.len(), folders.common_prefixes), (3, vec!["t/deep".into()]));
    }
}
