//! The web bundle, compiled in from `web/dist` by `build.rs`.
//!
//! Invariants: the table is sorted by path and holds each path once; an ETag is a function of the
//! bytes; `gzip` is there exactly when it is smaller than `bytes`.

include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

/// One file of the bundle.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    pub bytes: &'static [u8],
    /// The same bytes packed once at build time, absent where packing gains nothing.
    pub gzip: Option<&'static [u8]>,
    pub mime: &'static str,
    /// Strong and quoted, ready for the header. Serve the packed form under a tag of its own.
    pub etag: &'static str,
}

/// The file at `path` as it lies under `web/dist`, for example `console/index.html`.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    let at = BUNDLE.binary_search_by_key(&path, |(path, _)| path).ok()?;
    BUNDLE.get(at).map(|(_, asset)| *asset)
}

/// Every path of the bundle, in order.
pub fn assets() -> impl Iterator<Item = &'static str> {
    BUNDLE.iter().map(|(path, _)| *path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file_on_disk_is_found_with_its_bytes() {
        let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/dist");
        for path in assets() {
            let found = asset(path).expect("it is in the table");
            assert_eq!(
                found.bytes,
                std::fs::read(dist.join(path)).expect("it is on disk"),
                "{path}"
            );
            assert!(found.gzip.is_none_or(|packed| packed.len() < found.bytes.len()), "{path}");
            assert!(
                found.etag.len() == 34 && found.etag.starts_with('"') && found.etag.ends_with('"')
            );
        }
    }

    #[test]
    fn the_table_is_sorted_so_that_search_finds_all_of_it() {
        let paths: Vec<_> = assets().collect();
        assert!(paths.is_sorted(), "{paths:?}");
    }

    #[test]
    fn what_is_not_in_the_bundle_is_not_found() {
        for path in ["", "/", "../Cargo.toml", "console", "console/", "/console/index.html"] {
            assert!(asset(path).is_none(), "{path}");
        }
    }
}
