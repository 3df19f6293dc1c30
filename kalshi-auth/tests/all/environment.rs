use std::collections::BTreeSet;

use kalshi_auth::{AuthErrorKind, Environment, Service, is_loopback};

fn custom(url: &str) -> Environment {
    Environment::Custom(url.to_owned())
}

#[test]
fn every_service_has_a_host_of_its_own_environment() {
    for service in Service::ALL {
        let production = Environment::Production.url(service).into_owned();
        let demo = Environment::Demo.url(service).into_owned();
        assert!(production.contains(".kalshi.com/"), "{production}");
        assert!(demo.contains(".kalshi.co/") && demo.contains("demo"), "{demo}");
        for url in [&production, &demo] {
            assert!(url.ends_with(service.path()), "{url}");
            assert!(url.starts_with(if service.is_stream() { "wss://" } else { "https://" }));
        }
        for environment in [Environment::Production, Environment::Demo] {
            assert_eq!(
                environment.checked_url(service).unwrap().to_string(),
                environment.url(service)
            );
        }
    }
    let paths: BTreeSet<_> = Service::ALL.iter().map(|service| service.path()).collect();
    assert_eq!(paths.len(), Service::ALL.len());
}

#[test]
fn the_other_services_of_a_custom_url_are_on_its_host() {
    let urls = |base: &str| Service::ALL.map(|service| custom(base).url(service).into_owned());
    let local = [
        "http://127.0.0.1:8080/trade-api/v2",
        "ws://127.0.0.1:8080/trade-api/ws/v2",
        "http://127.0.0.1:8080/trade-api/v2/margin",
        "ws://127.0.0.1:8080/trade-api/ws/v2/margin",
        "http://127.0.0.1:8080/klear-api/v1",
    ];
    for base in local {
        assert_eq!(urls(base), local, "{base}");
    }
    assert_eq!(urls("http://127.0.0.1:8080/trade-api/v2/"), local);
    let link = custom("https://link.example/kalshi/trade-api/v2");
    assert_eq!(link.url(Service::Streams), "wss://link.example/kalshi/trade-api/ws/v2");
}

#[test]
fn a_custom_url_is_used_as_it_is_for_its_own_kind_of_service() {
    assert_eq!(custom("ws://127.0.0.1:1/feed").url(Service::Streams), "ws://127.0.0.1:1/feed");
    assert_eq!(custom("https://host/x/").url(Service::Rest), "https://host/x");
    assert_eq!(
        custom("ws://127.0.0.1:1/feed").url(Service::Rest),
        "http://127.0.0.1:1/feed/trade-api/v2"
    );
}

#[test]
fn a_url_of_production_or_demo_leads_to_all_hosts_of_it() {
    for environment in [Environment::Production, Environment::Demo] {
        for known in Service::ALL {
            let same = custom(&environment.url(known));
            for service in Service::ALL {
                assert_eq!(same.url(service), environment.url(service), "{same}");
            }
        }
    }
}

#[test]
fn an_environment_prints_as_it_is_read() {
    for text in ["production", "demo", "http://127.0.0.1:1/trade-api/v2", "wss://host/x"] {
        assert_eq!(text.parse::<Environment>().unwrap().to_string(), text);
    }
    for text in ["", "Production", "prod", "ftp://host", "host/trade-api/v2"] {
        let error = text.parse::<Environment>().unwrap_err();
        assert_eq!(error.kind(), AuthErrorKind::InvalidEnvironment, "{text}");
    }
}

#[test]
fn the_environment_variable_names_the_environment() {
    let read = |value: Option<&str>| {
        Environment::from_vars(|name| {
            assert_eq!(name, "KALSHI_ENV");
            value.map(Into::into)
        })
    };
    assert_eq!(read(Some("demo")).unwrap(), Environment::Demo);
    let error = read(None).unwrap_err();
    assert!(error.to_string().starts_with("KALSHI_ENV is not set; it must be"), "{error}");
    let error = read(Some("demonstration")).unwrap_err();
    assert!(error.to_string().starts_with("KALSHI_ENV: an environment is `production`"), "{error}");
}

#[test]
fn a_url_with_parts_that_do_not_belong_is_refused() {
    for (url, service) in [
        ("ftp://host/trade-api/v2", Service::Rest),
        ("nonsense", Service::Rest),
        ("https:///trade-api/v2", Service::Rest),
        ("https://host/trade-api/v2?y=1", Service::Rest),
        ("https://host/trade-api/v2#y", Service::Rest),
        ("https://host:port/trade-api/v2", Service::Rest),
        ("https://host:65536/trade-api/v2", Service::Rest),
        ("https://host:/trade-api/v2", Service::Rest),
        ("wss://host/x?y=1", Service::Streams),
        ("nonsense", Service::Streams),
    ] {
        match custom(url).checked_url(service) {
            Ok(uri) => panic!("{url} passes as {uri}"),
            Err(error) => assert_eq!(error.kind(), AuthErrorKind::InvalidEnvironment, "{url}"),
        }
    }
    for url in ["https://me:hunter2@host/trade-api/v2", "https://me:hunter2@host:99999/"] {
        let error = custom(url).checked_url(Service::Rest).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn newcomer_12_a_base_url_without_the_path_of_the_api_is_refused_with_the_right_one() {
    for (url, hint) in [
        ("http://127.0.0.1:8080", "has no path: write \"http://127.0.0.1:8080/trade-api/v2\""),
        ("http://127.0.0.1:8080/", "has no path: write \"http://127.0.0.1:8080/trade-api/v2\""),
        ("http://127.0.0.1:8080/v2", "does not end with /trade-api/v2, the path of the API"),
    ] {
        let error = custom(url).checked_url(Service::Rest).unwrap_err();
        assert!(error.to_string().ends_with(hint), "{error}");
    }
    custom("https://link.example/kalshi/trade-api/v2").checked_url(Service::Rest).unwrap();
}

#[test]
fn one_rule_tells_whether_a_host_is_this_machine() {
    for host in
        ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "[::ffff:127.0.0.1]"]
    {
        assert!(is_loopback(host), "{host}");
    }
    for host in
        ["", "example.com", "localhost.example.com", "128.0.0.1", "[::2]", "::ffff:10.0.0.1", "0"]
    {
        assert!(!is_loopback(host), "{host}");
    }
}
