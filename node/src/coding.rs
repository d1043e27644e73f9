//! Texts in the content coding that each client wants: compressed once per version, shared by all.
//!
//! Playlists and manifests are the texts; media is compressed already, and every microsecond of it
//! counts (LD-04). Who calls it: `live` for its versions, `respond` for what is stored, `fill` to say
//! which bodies are texts. What it calls: `cache` for the choice of the coding and the place of its form.
//! Deliberately not here: coding again what an origin has coded, which passes untouched; texts that this node has to
//! read are decoded where they arrive (`fill`).
//!
//! Entity tags: a form in a coding has the tag of the text with the coding's name behind it, so
//! `"v1"`, `"v1-zstd"`, `"v1-br"` and `"v1-gzip"` are one version (CA-18).

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use cache::body::Writer;
use cache::{BodyFailure, BodyState, Coding, GrowingBody, StoredResponse};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use media::Kind;
use tokio::sync::Semaphore;

use crate::node::Node;

/// Returns whether responses of `kind` are texts: sent whole, in the coding the client wants.
pub(crate) fn is_text(kind: Kind) -> bool {
    match kind {
        Kind::MultivariantPlaylist | Kind::MediaPlaylist | Kind::Mpd => true,
        Kind::InitSegment | Kind::Segment | Kind::Part | Kind::Key | Kind::Other => false,
    }
}

/// Returns a stored text in the form in which `request` gets it.
///
/// # Cancel safety
///
/// As [`choose`].
pub(crate) async fn stored_text(
    node: &Node,
    request: &HeaderMap,
    stored: &Arc<StoredResponse>,
) -> Arc<StoredResponse> {
    if stored.status != StatusCode::OK || !allows_coding(&stored.headers) {
        return Arc::clone(stored);
    }
    let chosen = choose(node, request, &stored.body).await;
    let mut sent = StoredResponse::clone(stored);
    chosen.describe(&mut sent.headers);
    sent.body = chosen.body;
    Arc::new(sent)
}

/// Returns a text as a body, with room for coded forms unless it is too small for them.
pub(crate) fn text(bytes: Bytes) -> GrowingBody {
    if bytes.len() >= CODED_BYTES_MIN {
        GrowingBody::text(bytes)
    } else {
        GrowingBody::full(bytes)
    }
}

/// Returns whether a response with these fields may be coded on its way.
pub(crate) fn allows_coding(fields: &HeaderMap) -> bool {
    // RFC 9110 7.7: no-transform; 8.4: what is coded already stays as it is.
    !fields.contains_key(header::CONTENT_ENCODING)
        && !fields
            .get_all(header::CACHE_CONTROL)
            .iter()
            .flat_map(|line| line.as_bytes().split(|b| *b == b','))
            .any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Chooses the form of `text` for a request, and waits until it is there.
///
/// Returns the text itself where the request wants no coding, or no coding makes it smaller.
///
/// # Cancel safety
///
/// A form is made for everybody: whoever waits for it may leave.
pub(crate) async fn choose(node: &Node, request: &HeaderMap, text: &GrowingBody) -> Chosen {
    let wanted = text.codings().zip(cache::codings::wanted(request));
    if let Some((codings, coding)) = wanted {
        let form = codings.form(coding);
        if let Some(writer) = form.writer {
            start(node, text.clone(), coding, writer);
        }
        if form.body.ended().await.state == BodyState::Complete {
            return Chosen {
                body: form.body,
                coding: Some(coding),
            };
        }
    }
    Chosen {
        body: text.clone(),
        coding: None,
    }
}

/// A text in the form in which it is sent.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The bytes, all there.
    pub(crate) body: GrowingBody,
    /// Their coding, if they have one.
    pub(crate) coding: Option<Coding>,
}

impl Chosen {
    /// Lets the head of the text say which form it is: coding, entity tag, `Vary`.
    pub(crate) fn describe(&self, fields: &mut HeaderMap) {
        vary_by_coding(fields);
        let Some(coding) = self.coding else { return };
        fields.insert(header::CONTENT_ENCODING, coding.field_value());
        if let Some(plain) = fields.remove(header::ETAG)
            && let Some(tag) = coding.tag(&plain)
        {
            fields.insert(header::ETAG, tag);
        }
        // RFC 9530 2: it is of the text as it was.
        fields.remove("content-digest");
        fields.remove("content-md5");
    }
}

/// RFC 9110 12.5.5: also the text as it is was chosen by `Accept-Encoding`.
fn vary_by_coding(fields: &mut HeaderMap) {
    let names_it = |line: &HeaderValue| {
        let mut members = line.as_bytes().split(|b| *b == b',');
        members.any(|member| {
            let member = member.trim_ascii();
            member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding")
        })
    };
    if !fields.get_all(header::VARY).iter().any(names_it) {
        fields.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The places for coding large texts, away from the threads that serve.
#[derive(Debug)]
pub(crate) struct Coders {
    seats: Arc<Semaphore>,
}

impl Default for Coders {
    fn default() -> Self {
        Self {
            seats: Arc::new(Semaphore::new(CODERS_MAX)),
        }
    }
}

/// Codes a text: at once if it is small, else as a task that takes its turn.
fn start(node: &Node, text: GrowingBody, coding: Coding, writer: Writer) {
    if text.len_if_complete().unwrap_or(u64::MAX) <= CODED_AT_ONCE_BYTES_MAX {
        code(&text, coding, writer);
        return;
    }
    let seats = Arc::clone(&node.coders.seats);
    node.tasks.spawn(async move {
        // Never closed; and if it were, the dropped writer sends everybody the text as it is.
        let Ok(_seat) = seats.acquire_owned().await else {
            return;
        };
        let coded = tokio::task::spawn_blocking(move || code(&text, coding, writer));
        // A coder that panicked has dropped its writer: the form has failed, and nobody waits.
        coded.await.ok();
    });
}

/// Writes the form of `text` in `coding`.
fn code(text: &GrowingBody, coding: Coding, mut writer: Writer) {
    let length = text.len_if_complete().unwrap_or(0);
    match compress(text, coding) {
        Ok(coded) if (coded.len() as u64) < length => {
            writer.push(Bytes::from(coded.into_boxed_slice()));
            writer.complete();
        }
        // Not smaller than the text: it is sent as it is.
        Ok(_) | Err(_) => writer.fail(BodyFailure::TooLarge),
    }
}

fn compress(text: &GrowingBody, coding: Coding) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), level);
            write_to(&mut coder, text)?;
            coder.finish()
        }
        Coding::Brotli => {
            let mut coder =
                brotli::CompressorWriter::new(Vec::new(), 0, BROTLI_QUALITY, BROTLI_WINDOW_BITS);
            write_to(&mut coder, text)?;
            Ok(coder.into_inner())
        }
        Coding::Zstd => {
            let mut coder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
            // Known ahead, the length lets a decoder of a small text take a small window.
            coder.set_pledged_src_size(text.len_if_complete())?;
            write_to(&mut coder, text)?;
            coder.finish()
        }
    }
}

fn write_to(coder: &mut impl Write, text: &GrowingBody) -> io::Result<()> {
    text.slices().try_for_each(|slice| coder.write_all(slice))
}

/// Smaller texts fit into one packet as they are.
const CODED_BYTES_MIN: usize = 256;

/// Above it a text is coded on a thread for that: gzip takes 0.3 ms for so many bytes.
const CODED_AT_ONCE_BYTES_MAX: u64 = 64 * 1024;

/// How many large texts are coded at the same time; the others take their turn.
const CODERS_MAX: usize = 2;

// Measured on playlists, microseconds and bytes (optimized build, one core at 2.1 GHz or so):
//
//               live, 7.9 kB    DVR of 2 h, 175 kB   with signed URLs, 308 kB
//   zstd 1      20 us,  557 B     124 us,  4.6 kB        430 us, 38.4 kB
//   zstd 3      22 us,  554 B     157 us,  4.8 kB        672 us, 43.3 kB
//   brotli 4    56 us,  529 B     857 us,  5.2 kB       3197 us, 44.3 kB
//   brotli 5    99 us,  515 B    6474 us,  5.2 kB      10291 us, 44.5 kB
//   gzip 1     120 us,  769 B     151 us, 11.7 kB        709 us, 51.9 kB
//   gzip 4     169 us,  653 B     784 us,  9.5 kB       2925 us, 50.6 kB
//   gzip 6     178 us,  653 B    1415 us,  9.5 kB       9316 us, 50.5 kB
const ZSTD_LEVEL: i32 = 1;
const BROTLI_QUALITY: u32 = 4;
const GZIP_LEVEL: u32 = 4;

/// A window of 1 MiB: what lies further back in a playlist is as well found nearer.
const BROTLI_WINDOW_BITS: u32 = 20;
