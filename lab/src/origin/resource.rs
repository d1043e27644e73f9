//! What a path names.

use super::timeline::PartId;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Multivariant(Edition),
    Playlist(Edition, usize),
    Manifest(Edition),
    Init(usize),
    Segment(Edition, usize, u64),
    Part(usize, PartId),
    Time,
    Counts,
    Reset,
}

/// One way of presenting the same media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edition {
    LowLatency,
    Plain,
    OnDemand,
}

impl Resource {
    /// Reads a path; `names` are the renditions.
    pub(crate) fn of(path: &str, names: &[&str]) -> Option<Self> {
        match path {
            "/time" => return Some(Self::Time),
            "/origin/counts.json" => return Some(Self::Counts),
            "/origin/reset" => return Some(Self::Reset),
            _ => {}
        }
        let (edition, rest) = path.strip_prefix('/')?.split_once('/')?;
        let edition = match edition {
            "live" => Edition::LowLatency,
            "plain" => Edition::Plain,
            "vod" => Edition::OnDemand,
            _ => return None,
        };
        match rest {
            "index.m3u8" => return Some(Self::Multivariant(edition)),
            "manifest.mpd" => return Some(Self::Manifest(edition)),
            _ => {}
        }
        let (name, file) = rest.split_once('/')?;
        let track = names.iter().position(|known| *known == name)?;
        match file {
            "playlist.m3u8" => return Some(Self::Playlist(edition, track)),
            "init.mp4" => return Some(Self::Init(track)),
            _ => {}
        }
        let number = file.strip_prefix("seg")?.strip_suffix(".m4s")?;
        match number.split_once('.') {
            None => Some(Self::Segment(edition, track, decimal(number)?)),
            Some((msn, part)) if edition == Edition::LowLatency => Some(Self::Part(
                track,
                PartId {
                    msn: decimal(msn)?,
                    part: decimal(part)?,
                },
            )),
            Some(_) => None,
        }
    }
}

/// Reads a number as we write it: digits without leading zeros, within reason.
fn decimal(text: &str) -> Option<u64> {
    let is_ours = !text.is_empty()
        && text.len() <= 12
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if is_ours { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_playlists_say() {
        let of = |path| Resource::of(path, &["v0", "a0"]);
        assert_eq!(
            of("/live/index.m3u8"),
            Some(Resource::Multivariant(Edition::LowLatency))
        );
        assert_eq!(
            of("/vod/a0/playlist.m3u8"),
            Some(Resource::Playlist(Edition::OnDemand, 1))
        );
        assert_eq!(
            of("/plain/v0/seg12.m4s"),
            Some(Resource::Segment(Edition::Plain, 0, 12))
        );
        let id = PartId { msn: 12, part: 3 };
        assert_eq!(of("/live/v0/seg12.3.m4s"), Some(Resource::Part(0, id)));
        assert_eq!(
            of("/plain/v0/seg12.3.m4s"),
            None,
            "only low latency has parts"
        );
        for path in [
            "/",
            "/live",
            "/live/v9/init.mp4",
            "/live/v0/seg-1.m4s",
            "/live/v0/seg01.m4s",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
