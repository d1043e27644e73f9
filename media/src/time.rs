//! Dates and durations as media texts write them (ISO 8601, `xs:dateTime`, `xs:duration`).
//!
//! Called by the live rendition for `EXT-X-PROGRAM-DATE-TIME` and by the MPD parser. Deliberately not
//! here: the current time, which comes in as a value.

use std::time::Duration;

/// Reads a date and time as time since 1970-01-01T00:00:00Z.
///
/// Takes `2026-02-14T02:13:36.106Z`, offsets as `+01:00`, `+0100` or `+01`, and no offset at all,
/// which is read as UTC. `None` for anything else and for times before 1970.
pub fn parse_date_time(text: &str) -> Option<Duration> {
    let (date, time) = text.trim_ascii().split_once('T')?;
    let mut date = date.splitn(3, '-');
    let days = days_since_1970(
        digits(date.next()?, 4)?,
        digits(date.next()?, 2)?,
        digits(date.next()?, 2)?,
    )?;
    let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at_checked(zone)?;
    let offset = zone_seconds(zone)?;
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (digits(time.next()?, 2)?, digits(time.next()?, 2)?);
    let (second, nanoseconds) = fraction(time.next().unwrap_or("0"))?;
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + i64::try_from(second).ok()?;
    let seconds = u64::try_from(seconds - offset).ok()?;
    Some(Duration::new(seconds, nanoseconds))
}

/// Writes a time since 1970-01-01T00:00:00Z as `2026-02-14T02:13:36.106Z`, cut to milliseconds.
///
/// The years 1970 to 9999 have this form; later ones have more digits.
pub fn format_date_time(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Counted from 0000-03-01, so that the leap day is the last of its year, and 400 years are alike.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let milliseconds = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// Reads an `xs:duration` such as `PT4S`, `PT1H30M0.5S` or `P1DT12H`; at most thirty years or so.
///
/// Years and months count 365 and 30 days, as players do. `None` for anything else, negative
/// durations included.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const DAY: u64 = 86_400;
    let rest = text.trim_ascii().strip_prefix('P')?;
    let (date, time) = rest
        .split_once('T')
        .map_or((rest, None), |(date, time)| (date, Some(time)));
    if date.is_empty() && time.is_none_or(str::is_empty) {
        return None;
    }
    let date = fields(date, &[('Y', 365 * DAY), ('M', 30 * DAY), ('D', DAY)])?;
    let time = fields(time.unwrap_or(""), &[('H', 3_600), ('M', 60), ('S', 1)])?;
    let sum = date.checked_add(time)?;
    (sum.as_secs() <= SECONDS_MAX).then_some(sum)
}

/// Reads numbers with unit letters, each unit at most once and in this order.
fn fields(text: &str, units: &[(char, u64)]) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    for &(letter, seconds) in units {
        let Some((number, after)) = rest.split_once(letter) else {
            continue;
        };
        let (whole, nanoseconds) = fraction(number)?;
        if nanoseconds > 0 && seconds > 1 {
            return None;
        }
        let field = Duration::new(whole.checked_mul(seconds)?, nanoseconds);
        sum = sum.checked_add(field)?;
        rest = after;
    }
    rest.is_empty().then_some(sum)
}

/// Reads a decimal number as a whole and nanounits.
fn fraction(text: &str) -> Option<(u64, u32)> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, ""));
    if whole.is_empty()
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nano = digits.fold(0, |nano, digit| nano * 10 + u32::from(digit - b'0'));
    Some((whole.parse().ok()?, nano))
}

fn zone_seconds(zone: &str) -> Option<i64> {
    let (sign, digits_of) = match zone.split_at_checked(1) {
        None | Some(("Z", "")) => return Some(0),
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        Some(_) => return None,
    };
    let (hours, minutes) = match digits_of.split_once(':') {
        Some(pair) => pair,
        None if digits_of.len() == 4 => digits_of.split_at_checked(2)?,
        None => (digits_of, "00"),
    };
    Some(sign * (digits(hours, 2)? * 3_600 + digits(minutes, 2)? * 60))
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Counts days of the proleptic Gregorian calendar from 1970-01-01, with years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    Some(year * 365 + leap_days + day_of_year - DAYS_TO_1970)
}

/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

/// Sums of durations stay far from overflow.
const SECONDS_MAX: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_time_since_1970() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(Duration::ZERO)),
            (
                "2000-02-29T12:00:00Z",
                Some(Duration::from_secs(951_825_600)),
            ),
            (
                "2026-11-22T18:06:00.25Z",
                Some(Duration::from_millis(1_795_370_760_250)),
            ),
            (
                "2026-11-22T19:06:00.250+01:00",
                Some(Duration::from_millis(1_795_370_760_250)),
            ),
            (
                "2026-11-22T13:36:00.250-0430",
                Some(Duration::from_millis(1_795_370_760_250)),
            ),
            (
                "2026-11-22T18:06:00",
                Some(Duration::from_secs(1_795_370_760)),
            ),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-22 18:06:00Z", None),
            ("2026-11-22T18:06:00X", None),
            ("2026-11-22T99:06:00Z", None),
            ("26-11-22T18:06:00Z", None),
            ("T", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_date_time(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read_to_the_nanosecond() {
        let cases = [
            ("PT4S", Some(Duration::from_secs(4))),
            ("PT0.5S", Some(Duration::from_millis(500))),
            ("PT1H30M0.25S", Some(Duration::from_millis(5_400_250))),
            ("P1DT12H", Some(Duration::from_secs(129_600))),
            ("P0Y0M0DT0H0M3.000S", Some(Duration::from_secs(3))),
            ("PT", None),
            ("P", None),
            ("4", None),
            ("-PT4S", None),
            ("PT4", None),
            ("PT1.5H", None),
            ("PT4S4S", None),
            ("PT5M1H", None),
            ("P99999999999999999999Y", None),
            ("P18446744073709551615Y", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "1999-12-31T23:59:59.999Z",
            "2000-02-29T12:00:00.001Z",
            "2024-02-29T00:00:00.000Z",
            "2026-02-14T02:13:36.106Z",
            "2100-03-01T00:00:00.000Z",
        ] {
            let read = parse_date_time(text).unwrap();
            assert_eq!(format_date_time(read), text);
        }
    }
}
