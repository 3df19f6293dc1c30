use kalshi_auth::{AuthErrorKind, Origin};
use reqwest::Url;

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

#[test]
fn an_origin_is_scheme_host_and_port() {
    let origin: Origin = "https://External-API.kalshi.com/trade-api/v2?a=b".parse().unwrap();
    assert_eq!(origin.to_string(), "https://external-api.kalshi.com");
    for inside in ["https://external-api.kalshi.com/x", "https://external-api.kalshi.com:443/"] {
        assert!(origin.contains(&url(inside)), "{inside}");
    }
    for outside in [
        "http://external-api.kalshi.com/",
        "https://external-api.kalshi.com:8443/",
        "https://external-api.kalshi.com.evil.example/",
        "https://evil.example/external-api.kalshi.com",
        "https://external-api.kalshi.com@evil.example/",
        "https://api.external-api.kalshi.com/",
        "https://external-api.demo.kalshi.co/",
    ] {
        assert!(!origin.contains(&url(outside)), "{outside}");
    }
}

#[test]
fn plain_http_is_for_this_machine() {
    for loopback in [
        "http://localhost:1",
        "http://127.0.0.1",
        "http://127.1.2.3:80",
        "http://[::1]:8080",
        "http://[::ffff:127.0.0.1]",
        "http://2130706433",
    ] {
        assert!(loopback.parse::<Origin>().is_ok(), "{loopback}");
    }
    for other in [
        "http://external-api.kalshi.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://[::2]",
    ] {
        let error = other.parse::<Origin>().unwrap_err();
        assert_eq!(error.kind(), AuthErrorKind::InvalidOrigin, "{other}");
        assert!(Origin::insecure(&url(other)).is_ok(), "{other}");
    }
}

#[test]
fn what_is_not_a_web_address_is_no_origin() {
    for text in ["", "external-api.kalshi.com", "ftp://host", "file:///etc", "data:,a", "wss://h"] {
        let error = Origin::try_from(text).unwrap_err();
        assert_eq!(error.kind(), AuthErrorKind::InvalidOrigin, "{text}");
    }
}
