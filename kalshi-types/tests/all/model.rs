//! What a text means, by comparing digits as text: no arithmetic is shared with the parser.

/// Returns the number of units of `10^-decimals` that a text stands for, or `None` where it has to
/// be refused.
pub(crate) fn units(text: &str, decimals: usize) -> Option<i64> {
    if text.len() > 64 {
        return None;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_digits = |part: &str| part.chars().all(|c| "0123456789".contains(c));
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > decimals {
        return None;
    }
    let digits = format!("{whole}{fraction:0<decimals$}");
    let digits = digits.trim_start_matches('0');
    let negative = text.starts_with('-');
    let limit = if negative { "9223372036854775808" } else { "9223372036854775807" };
    let fits = digits.len() < limit.len() || (digits.len() == limit.len() && digits <= limit);
    if !fits {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    let digits = if digits.is_empty() { "0" } else { digits };
    Some(format!("{sign}{digits}").parse().unwrap())
}

/// Returns a number of units as text with all of its decimals, by moving the point in the printed
/// integer.
pub(crate) fn text(units: i64, decimals: usize) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", units.unsigned_abs().to_string(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    format!("{sign}{whole}.{fraction}")
}
