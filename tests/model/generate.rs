//! Random cases: what origins say, sensibly and not, and what viewers ask.
//!
//! Who calls it: the property test. Deliberately not here: what should come of it. Not generated: `Vary` on
//! fields that no rule forwards (the edge asks in its own name), and `Accept-Encoding` (which the edge
//! replaces by its own normal form, so that viewers share what they need not).

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::origin::{Line, Script};
use crate::promise::{NOT_SATISFIABLE, Operator};
use crate::run::{Case, PATHS, Step};

/// Generates cases of at most this many steps.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let operator = (prop::bool::weighted(0.35), prop::bool::weighted(0.35)).prop_map(
        |(obeys_viewers, trusts_date)| Operator {
            obeys_viewers,
            trusts_date,
        },
    );
    let scripts = vec(scripts(), PATHS.len());
    (operator, scripts, vec(step(), 1..=STEPS_MAX)).prop_map(|(operator, scripts, steps)| Case {
        operator,
        scripts,
        steps,
    })
}

const STEPS_MAX: usize = 12;

/// What an origin says of one path: mostly it keeps varying by the same fields.
fn scripts() -> impl Strategy<Value = Vec<Script>> {
    (
        vary(),
        vec((script(), option::weighted(0.1, vary())), 1..=4),
    )
        .prop_map(|(vary, scripts)| {
            scripts
                .into_iter()
                .map(|(mut script, other)| {
                    let vary = other.unwrap_or_else(|| vary.clone());
                    script.fields.extend(vary.clone());
                    script
                })
                .collect()
        })
}

fn script() -> impl Strategy<Value = Script> {
    let status = prop_oneof![
        14 => Just(200_u16),
        6 => select(&[203_u16, 204, 301, 302, 404, 410, 500, 503][..]),
    ];
    let delay = prop_oneof![6 => Just(0_u64), 1 => Just(300), 1 => Just(1_200)];
    let fields = (
        cache_control(),
        targeted(),
        validators(),
        times(),
        option::weighted(0.05, Just(plain("set-cookie", "a=b"))),
    );
    let not_modified = option::weighted(0.75, not_modified());
    (status, fields, not_modified, delay).prop_map(|(status, fields, not_modified, delay_ms)| {
        let (control, targeted, validators, times, cookie) = fields;
        let fields = [control, targeted, validators, times]
            .into_iter()
            .flatten()
            .chain(cookie)
            .collect();
        Script {
            status,
            fields,
            not_modified,
            delay_ms,
        }
    })
}

fn not_modified() -> impl Strategy<Value = Vec<Line>> {
    let tag = prop_oneof![
        6 => Just(Some(Line::SameTag)),
        2 => Just(None),
        1 => Just(Some(plain("etag", "\"9\""))),
    ];
    let date = prop_oneof![5 => Just(Some(Line::SinceNow("date", 0))), 1 => Just(None)];
    let control = prop_oneof![1 => Just(Vec::new()), 2 => cache_control()];
    (tag, date, control)
        .prop_map(|(tag, date, control)| tag.into_iter().chain(date).chain(control).collect())
}

fn cache_control() -> impl Strategy<Value = Vec<Line>> {
    let common = (lifetime("max-age"), vec(directive(), 0..=2)).prop_map(|(lifetime, others)| {
        let all: Vec<String> = std::iter::once(lifetime).chain(others).collect();
        vec![plain("cache-control", &all.join(", "))]
    });
    let mixture = vec(vec(directive(), 1..=3), 0..=2).prop_map(|lines| {
        lines
            .iter()
            .map(|directives| plain("cache-control", &directives.join(", ")))
            .collect()
    });
    prop_oneof![5 => common, 3 => mixture, 1 => Just(Vec::new())]
}

fn lifetime(name: &'static str) -> impl Strategy<Value = String> {
    select(&[0, 1, 5, 10, 60, 600][..]).prop_map(move |seconds| format!("{name}={seconds}"))
}

fn directive() -> impl Strategy<Value = String> {
    let plain = select(
        &[
            "no-cache",
            "no-store",
            "private",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "must-understand",
            "immutable",
            "no-transform",
        ][..],
    );
    let odd = select(
        &[
            "no-cache=\"x-note\"",
            "private=\"x-note, x-other\"",
            "private=x-note",
            "max-age=\"60\"",
            "max-age=abc",
            "max-age=-1",
            "max-age=1.5",
            "max-age=",
            "max-age",
            "max-age = 60",
            "max-age=99999999999999999999",
            "s-maxage=x",
            "Max-Age=60",
            "NO-STORE",
            "",
            "other=\"a, no-store, b\"",
            "other=1",
        ][..],
    );
    prop_oneof![
        4 => lifetime("max-age"),
        2 => lifetime("s-maxage"),
        4 => plain.prop_map(str::to_owned),
        1 => Just("must-revalidate".to_owned()),
        3 => lifetime("stale-while-revalidate"),
        3 => lifetime("stale-if-error"),
        3 => odd.prop_map(str::to_owned),
    ]
}

/// RFC 9213: often absent, sometimes sound, sometimes not.
fn targeted() -> impl Strategy<Value = Vec<Line>> {
    let value = select(
        &[
            "max-age=60",
            "max-age=5",
            "no-store",
            "private",
            "no-cache",
            "max-age=10, must-revalidate",
            "max-age=10, stale-while-revalidate=60",
            "s-maxage=5, stale-if-error=600",
            "public",
            "must-revalidate",
            "max-age=60;note=1, other",
            "max-age=1.5",
            "max-age=\"60\"",
            "max-age=",
            "Max-Age=60",
            "max-age=60,",
            "",
            "&",
        ][..],
    );
    let line = value.prop_map(|value| plain("cdn-cache-control", value));
    prop_oneof![6 => Just(Vec::new()), 1 => vec(line, 1..=1)]
}

fn validators() -> impl Strategy<Value = Vec<Line>> {
    let tag =
        select(&["\"1\"", "\"2\"", "W/\"1\"", "W/\"3\""][..]).prop_map(|tag| plain("etag", tag));
    let modified =
        select(&[-1000_i64, -500][..]).prop_map(|at| Line::SinceStart("last-modified", at));
    (option::weighted(0.6, tag), option::weighted(0.4, modified))
        .prop_map(|(tag, modified)| tag.into_iter().chain(modified).collect())
}

fn times() -> impl Strategy<Value = Vec<Line>> {
    let date = prop_oneof![
        14 => Just(Some(Line::SinceNow("date", 0))),
        3 => Just(None),
        2 => select(&[-1_i64, -30, -3000, 30][..]).prop_map(|s| Some(Line::SinceNow("date", s))),
        1 => Just(Some(plain("date", "yesterday"))),
    ];
    let expires = prop_oneof![
        3 => select(&[5_i64, 60, 3600, 0, -60][..]).prop_map(|s| Line::SinceNow("expires", s)),
        1 => select(&["0", "never"][..]).prop_map(|text| plain("expires", text)),
    ];
    let age = select(&["0", "3", "100", "3000", "x", "-1", "5, 100", "1.5"][..])
        .prop_map(|age| plain("age", age));
    let all = (
        date,
        prop_oneof![6 => vec(expires.clone(), 0..=0), 3 => vec(expires, 1..=2)],
        option::weighted(0.15, age),
    );
    all.prop_map(|(date, expires, age)| date.into_iter().chain(expires).chain(age).collect())
}

fn vary() -> impl Strategy<Value = Vec<Line>> {
    let value = prop_oneof![
        8 => Just(None),
        3 => Just(Some("x-lang")),
        1 => Just(Some("X-Lang, Accept-Language")),
        1 => Just(Some("authorization")),
        1 => Just(Some("*")),
    ];
    value.prop_map(|value| value.map(|v| plain("vary", v)).into_iter().collect())
}

fn step() -> impl Strategy<Value = Step> {
    let ms = prop_oneof![
        select(&[1_u64, 400, 999, 1_000, 1_001, 2_000][..]),
        // With the millisecond in which a request settles, just as long as a lifetime.
        select(&[4_999_u64, 9_999, 59_999][..]),
        select(&[4_000_u64, 6_000, 11_000, 30_000][..]),
        select(&[61_000_u64, 300_000, 700_000][..]),
    ];
    prop_oneof![
        14 => ask(),
        7 => ms.prop_map(|ms| Step::Pass { ms }),
        1 => any::<bool>().prop_map(Step::Down),
        1 => change(),
    ]
}

fn change() -> impl Strategy<Value = Step> {
    let status = select(&[200_u16, 204, 303, 404, 500][..]);
    (select(&PATHS[..]), status).prop_map(|(path, status)| Step::Change { path, status })
}

fn ask() -> impl Strategy<Value = Step> {
    let path = prop_oneof![4 => Just(PATHS[0]), 1 => Just(PATHS[1])];
    let viewers = prop_oneof![6 => Just(1_usize), 1 => Just(3)];
    let fields = (selecting(), conditions(), range(), directives());
    (path, prop::bool::weighted(0.12), fields, viewers).prop_map(
        |(path, is_head, fields, viewers)| {
            let (selecting, conditions, range, directives) = fields;
            let fields = [selecting, conditions, range, directives];
            Step::Ask {
                path,
                is_head,
                fields: fields.into_iter().flatten().collect(),
                viewers,
            }
        },
    )
}

fn selecting() -> impl Strategy<Value = Vec<Line>> {
    let lang = select(&["en", "fr", "en, fr", "en,fr"][..]).prop_map(|lang| plain("x-lang", lang));
    let accepted = select(&["en", "fr"][..]).prop_map(|lang| plain("accept-language", lang));
    (
        option::weighted(0.3, lang),
        option::weighted(0.1, accepted),
        option::weighted(0.08, Just(plain("authorization", "Basic eA=="))),
    )
        .prop_map(|(lang, accepted, authorization)| {
            lang.into_iter()
                .chain(accepted)
                .chain(authorization)
                .collect()
        })
}

fn conditions() -> impl Strategy<Value = Vec<Line>> {
    let tags = select(&["\"1\"", "W/\"1\"", "\"7\", \"2\"", "\"7\"", "*"][..])
        .prop_map(|tags| plain("if-none-match", tags));
    let since = prop_oneof![
        select(&[-1000_i64, -999, -501, -500, 0][..])
            .prop_map(|at| Line::SinceStart("if-modified-since", at)),
        Just(plain("if-modified-since", "long ago")),
    ];
    (option::weighted(0.12, tags), option::weighted(0.1, since))
        .prop_map(|(tags, since)| tags.into_iter().chain(since).collect())
}

fn range() -> impl Strategy<Value = Vec<Line>> {
    let range = select(&["bytes=0-3", "bytes=5-", "bytes=-4", NOT_SATISFIABLE][..])
        .prop_map(|range| plain("range", range));
    let condition = prop_oneof![
        select(&["\"1\"", "W/\"1\"", "\"2\""][..]).prop_map(|tag| plain("if-range", tag)),
        Just(Line::SinceStart("if-range", -500)),
    ];
    let both = (range, option::weighted(0.5, condition))
        .prop_map(|(range, condition)| std::iter::once(range).chain(condition).collect());
    prop_oneof![6 => Just(Vec::new()), 1 => both]
}

/// What viewers say of caching, whether or not they are obeyed.
fn directives() -> impl Strategy<Value = Vec<Line>> {
    let said = select(
        &[
            "no-cache",
            "no-store",
            "max-age=0",
            "max-age=5",
            "min-fresh=5",
            "max-stale",
            "max-stale=30",
            "only-if-cached",
            "max-age=60, only-if-cached",
            "max-age=x",
        ][..],
    );
    let control = said.prop_map(|said| vec![plain("cache-control", said)]);
    prop_oneof![
        9 => Just(Vec::new()),
        2 => control,
        1 => Just(vec![plain("pragma", "no-cache")]),
    ]
}

fn plain(name: &'static str, value: &str) -> Line {
    Line::Plain(name, value.to_owned())
}
