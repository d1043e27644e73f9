//! The page and what belongs to it, as responses of the origin.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{Method, Request, Response};

use super::figures::Watched;
use crate::values::misuse;

/// The page's files, read once.
pub(super) struct Page {
    /// Where hls.js was found.
    pub(super) hls_js: Option<PathBuf>,
    hls_js_text: Bytes,
}

impl Page {
    /// Reads hls.js from `given`, or from a node_modules folder near the working directory or the program.
    ///
    /// # Errors
    ///
    /// A given file that cannot be read. That none is found is no error: browsers play some HLS themselves.
    pub(super) fn load(given: Option<&Path>) -> anyhow::Result<Self> {
        let hls_js = given.map(Path::to_owned).or_else(nearest_hls_js);
        let text = hls_js.as_ref().map(|file| {
            let read = fs::read(file).with_context(|| format!("cannot read {}", file.display()));
            read.map_err(misuse)
        });
        Ok(Self {
            hls_js,
            hls_js_text: text.transpose()?.unwrap_or_default().into(),
        })
    }

    /// Answers a request for the page; anything else is the origin's.
    pub(super) fn answer(
        &self,
        request: &Request<()>,
        watched: &Watched,
    ) -> Option<Response<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let (content_type, cache_control, body) = match request.uri().path() {
            "/" => ("text/html; charset=utf-8", SHORT, Bytes::from_static(HTML)),
            "/demo/page.css" => ("text/css", SHORT, Bytes::from_static(CSS)),
            "/demo/page.js" => ("text/javascript", SHORT, Bytes::from_static(JS)),
            "/demo/hls.js" if self.hls_js.is_some() => {
                ("text/javascript", LONG, self.hls_js_text.clone())
            }
            "/demo/figures.json" => ("application/json", NEVER, watched.as_json()),
            _ => return None,
        };
        let response = Response::builder()
            .header(CONTENT_TYPE, content_type)
            .header(CACHE_CONTROL, cache_control)
            .header(CONTENT_SECURITY_POLICY, POLICY)
            .body(body);
        Some(response.expect("every field is a constant"))
    }
}

/// Looks for hls.js as npm installs it: here, in the browser tests, and in every folder above.
fn nearest_hls_js() -> Option<PathBuf> {
    let here = env::current_dir().ok();
    let program = env::current_exe().ok();
    let starts = [here.as_deref(), program.as_deref()];
    let folders = starts
        .into_iter()
        .flatten()
        .flat_map(|start| start.ancestors().take(FOLDERS_UP_MAX));
    folders
        .flat_map(|folder| [folder.to_owned(), folder.join("tests/browser")])
        .map(|folder| folder.join("node_modules/hls.js/dist/hls.min.js"))
        .find(|file| file.is_file())
}

const HTML: &[u8] = include_bytes!("../../page/index.html");
const CSS: &[u8] = include_bytes!("../../page/page.css");
const JS: &[u8] = include_bytes!("../../page/page.js");
/// A new build's page is seen at once.
const SHORT: &str = "max-age=1";
const LONG: &str = "max-age=3600";
const NEVER: &str = "no-store";
/// Nothing from elsewhere; hls.js transmuxes in a worker that it makes from a blob.
const POLICY: &str =
    "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; img-src 'self' data:";
const FOLDERS_UP_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            hls_js: None,
            hls_js_text: Bytes::new(),
        }
    }

    fn ask(path: &str) -> Option<Response<Bytes>> {
        let request = Request::get(path).body(()).unwrap();
        page().answer(&request, &Watched::starting_now(&[]))
    }

    #[test]
    fn every_file_that_the_page_names_is_answered() {
        let html = str::from_utf8(HTML).unwrap();
        for attribute in ["href=\"/", "src=\"/"] {
            for rest in html.split(attribute).skip(1) {
                let path = format!("/{}", rest.split('"').next().unwrap());
                let is_media = path.starts_with("/live/");
                let is_optional = path == "/demo/hls.js";
                assert!(is_media || is_optional || ask(&path).is_some(), "{path}");
            }
        }
    }

    #[test]
    fn every_element_that_the_script_writes_to_is_on_the_page() {
        let (html, js) = (str::from_utf8(HTML).unwrap(), str::from_utf8(JS).unwrap());
        for call in ["show(\"", "byId(\"", "fillRows(\"", "spark(\""] {
            for rest in js.split(call).skip(1) {
                let id = rest.split('"').next().unwrap();
                assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
            }
        }
    }

    #[test]
    fn figures_are_never_stored_and_media_is_left_to_the_origin() {
        let figures = ask("/demo/figures.json").unwrap();
        assert_eq!(figures.headers()[CACHE_CONTROL], "no-store");
        assert!(ask("/live/index.m3u8").is_none());
        assert!(ask("/demo/hls.js").is_none(), "hls.js was not found");
    }
}
