//! Reports of nodes as the body of a request.

use crate::Report;

/// Why a body is no reports.
#[derive(Debug, thiserror::Error)]
pub enum ReportsError {
    /// Too many bytes.
    #[error("the reports have {0} bytes, at most {REPORTS_BYTES_MAX} are read")]
    TooLarge(usize),
    /// Too many reports.
    #[error("{0} reports at once, at most {REPORTS_MAX} are read")]
    TooMany(usize),
    /// Not the expected JSON.
    #[error("the reports cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Reads the body of `POST /v1/feed/applied`.
///
/// # Errors
///
/// Too large, too many, or not the expected JSON.
pub fn read_reports(body: &[u8]) -> Result<Vec<Report>, ReportsError> {
    if body.len() > REPORTS_BYTES_MAX {
        return Err(ReportsError::TooLarge(body.len()));
    }
    let reports: Vec<Report> = serde_json::from_slice(body)?;
    if reports.len() > REPORTS_MAX {
        return Err(ReportsError::TooMany(reports.len()));
    }
    Ok(reports)
}

/// Writes the body of `POST /v1/feed/applied`.
///
/// The caller keeps to [`REPORTS_MAX`] reports with together no more than [`LINES_MAX`] lines: they are
/// within [`REPORTS_BYTES_MAX`] then.
pub fn write_reports(reports: &[Report]) -> Vec<u8> {
    serde_json::to_vec(reports).expect("reports have only string keys")
}

/// Bytes of reports in one request.
pub const REPORTS_BYTES_MAX: usize = 1024 * 1024;

/// Reports in one request.
pub const REPORTS_MAX: usize = 256;

/// Lines in the reports of one request: each has at most 160 bytes.
pub const LINES_MAX: usize = 4096;
