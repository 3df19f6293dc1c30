//! Names: from the exchange's spelling to Rust's.
//!
//! Fields and types follow typify to the letter, because typify makes them: a name that it would
//! spell in another way could not be found again in what it gives back.

use heck::{ToPascalCase, ToSnakeCase};

/// Rewrites runs of capitals as words, so that snake case reads well: `GetRFQs` to `GetRfqs`
/// (`get_rfqs`, not `get_rf_qs`), `GetFCMOrders` to `GetFcmOrders`.
pub(crate) fn split_acronyms(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len());
    let mut at = 0;
    while at < letters.len() {
        let run = letters[at..].iter().take_while(|c| c.is_ascii_uppercase()).count();
        if run < 2 {
            out.push(letters[at]);
            at += 1;
            continue;
        }
        let after = letters.get(at + run);
        let next = letters.get(at + run + 1);
        // The plural of an acronym: `RFQs` at the end or before a new word.
        let plural = after == Some(&'s') && next.is_none_or(|c| !c.is_ascii_lowercase());
        // Otherwise a lower-case letter belongs to the word that the last capital opens.
        let word =
            if !plural && after.is_some_and(char::is_ascii_lowercase) { run - 1 } else { run };
        out.push(letters[at]);
        out.extend(letters[at + 1..at + word].iter().map(char::to_ascii_lowercase));
        at += word;
    }
    out
}

/// Converts any text to upper camel case: `read::block_trade_accept` to `ReadBlockTradeAccept`.
pub(crate) fn pascal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(if start { c.to_ascii_uppercase() } else { c });
            start = false;
        } else {
            start = true;
        }
    }
    out
}

/// Returns the variant for one value of an enum, or `None` if the value has no letter or digit.
pub(crate) fn variant(value: &str) -> Option<String> {
    let name = match value {
        "" => return Some("Unset".to_owned()),
        // `Self` cannot name a variant; what the value selects is the caller's own objects.
        "self" => return Some("Own".to_owned()),
        _ => pascal(&if value.chars().any(|c| c.is_ascii_lowercase()) {
            split_acronyms(value)
        } else {
            value.to_ascii_lowercase()
        }),
    };
    if name.is_empty() {
        return None;
    }
    // `Unknown` is the open end of every enum; a digit cannot start a name.
    if name == "Unknown" || name == "Self" {
        return Some(format!("{name}Value"));
    }
    Some(if name.starts_with(|c: char| c.is_ascii_digit()) { format!("N{name}") } else { name })
}

/// Converts a name in camel case to snake case, after [`split_acronyms`]: `GetRfqs` to `get_rfqs`.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    let mut before = '_';
    for c in split_acronyms(name).chars() {
        if c.is_ascii_uppercase() {
            if before != '_' {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if before != '_' {
            out.push('_');
        }
        before = out.chars().next_back().unwrap_or('_');
    }
    out
}

/// Returns the type for a schema or the builder for an operation, as typify and progenitor spell
/// it; `None` if the name has no letter to begin with.
pub(crate) fn type_name(name: &str) -> Option<String> {
    let mut name = separate_words(&split_acronyms(name));
    // Until typify would leave it as it is: `A-B` becomes `AB`, and that `Ab`.
    for _ in 0..3 {
        name = name.to_snake_case().to_pascal_case();
    }
    let fits = name.is_ascii() && name.starts_with(|c: char| c.is_ascii_alphabetic());
    fits.then(|| kept(name))
}

/// Returns the method for an operation, after [`type_name`].
pub(crate) fn method_name(builder: &str) -> String {
    kept(snake(builder))
}

/// Returns the field for a property, as typify spells it.
pub(crate) fn field_name(wire: &str) -> String {
    cased(wire, 'x')
}

/// Returns the setter for a parameter, as progenitor spells it.
pub(crate) fn parameter_name(wire: &str) -> String {
    cased(wire, '_')
}

fn cased(wire: &str, prefix: char) -> String {
    let name = match wire {
        "+1" => "plus1".to_owned(),
        "-1" => "minus1".to_owned(),
        _ => separate_words(wire).to_snake_case(),
    };
    kept(match name.chars().next() {
        None => "x".to_owned(),
        Some(c) if c.is_alphabetic() => name,
        Some(_) => format!("{prefix}{name}"),
    })
}

/// Separates words at what cannot stand in a name.
fn separate_words(name: &str) -> String {
    name.replace('\'', "").replace(|c: char| !c.is_alphanumeric() && c != '_', "-")
}

/// Appends an underscore to a word that Rust keeps for itself.
fn kept(name: String) -> String {
    // Sorted.
    const KEYWORDS: [&str; 53] = [
        "Self", "_", "abstract", "as", "async", "await", "become", "box", "break", "const",
        "continue", "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for",
        "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut",
        "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait",
        "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while",
        "yield",
    ];
    if KEYWORDS.binary_search(&name.as_str()).is_ok() { format!("{name}_") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acronyms_become_words() {
        for (from, to) in [
            ("GetRFQs", "GetRfqs"),
            ("GetRFQsResponse", "GetRfqsResponse"),
            ("GetFCMOrders", "GetFcmOrders"),
            ("GetCommunicationsID", "GetCommunicationsId"),
            ("RFQ", "Rfq"),
            ("CreateOrderV2Request", "CreateOrderV2Request"),
            ("RFQBatchQuote", "RfqBatchQuote"),
        ] {
            assert_eq!(split_acronyms(from), to);
        }
    }

    #[test]
    fn operation_ids_become_method_names() {
        for (from, to) in [
            ("GetRFQs", "get_rfqs"),
            ("CreateOrderV2", "create_order_v2"),
            ("GetCommunicationsID", "get_communications_id"),
            ("BatchGetMarketCandlesticks", "batch_get_market_candlesticks"),
        ] {
            assert_eq!(snake(from), to);
        }
    }

    #[test]
    fn enum_values_become_variants() {
        for (from, to) in [
            ("", "Unset"),
            ("self", "Own"),
            ("unknown", "UnknownValue"),
            ("read::block_trade_accept", "ReadBlockTradeAccept"),
            ("greater_or_equal", "GreaterOrEqual"),
            ("60", "N60"),
            ("EXPIRED", "Expired"),
        ] {
            assert_eq!(variant(from).as_deref(), Some(to));
        }
        assert_eq!(variant("::"), None);
    }
}
