//! Encrypted connections. Which certificates are trusted is up to the platform, as it is when a
//! process starts: these tests run in processes of their own.

use std::{env, error::Error as _, fs, path::PathBuf, process::Command, sync::Arc};

use kalshi_ws::{ConnectErrorKind, Connection, Event, Subscription};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use crate::exchange::{Exchange, expect_event};

/// Names the file in which rustls looks for certificates to trust, on Linux.
const TRUSTED: &str = "SSL_CERT_FILE";

/// Names the file in which the exchange leaves its certificate.
const CERTIFICATE: &str = "KALSHI_TEST_CERTIFICATE";

/// Runs a test in a process of its own, with these variables.
fn run(name: &str, variables: &[(&str, PathBuf)]) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("tls::{name}"), "--ignored", "--nocapture"]);
    command.env_remove("SSL_CERT_DIR").envs(variables.iter().cloned());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.pem", std::process::id()))
}

/// Starts an exchange at `localhost` that made its certificate itself.
async fn encrypted_exchange() -> Exchange {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(env::var(CERTIFICATE).unwrap(), cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    Exchange::start_encrypted(TlsAcceptor::from(Arc::new(config))).await
}

#[test]
#[cfg(target_os = "linux")]
fn an_encrypted_connection_is_read_like_any_other() {
    let certificate = file("trusted");
    run("with_trust", &[(TRUSTED, certificate.clone()), (CERTIFICATE, certificate)]);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    run("without_trust", &[(CERTIFICATE, file("not-trusted"))]);
}

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn with_trust() {
    let mut exchange = encrypted_exchange().await;
    let (mut connection, mut peer) = exchange.connect(exchange.config()).await;
    connection.handle().subscribe(Subscription::trades(["A"])).unwrap();
    peer.subscribed(1).await;
    expect_event!(connection, Event::Subscribed { .. });
    // Less than a record of TLS, as much as one, several of them, and many small ones in one.
    let lengths = [10, 16_384, 100_000, 900_000].into_iter().chain([50; 1_000]);
    let notes: Vec<String> = lengths
        .map(|length| json!({"type": "note", "text": "é".repeat(length / 2)}).to_string())
        .collect();
    let sent = notes.clone();
    let exchange_end = tokio::spawn(async move {
        for note in sent {
            peer.feed(note).await;
        }
        peer.flush().await;
        peer.all_read().await;
        peer
    });
    for note in notes {
        let unknown = expect_event!(connection, Event::Unknown(unknown) => unknown);
        assert!(unknown.raw == note, "{} bytes became {}", note.len(), unknown.raw.len());
    }
    // The end of the connection, by either side.
    let mut peer = exchange_end.await.unwrap();
    peer.say_goodbye(1012).await;
    expect_event!(connection, Event::Disconnected { .. });
    let mut peer = exchange.peer().await;
    expect_event!(connection, Event::Reconnected { .. });
    peer.subscribed(1).await;
    expect_event!(connection, Event::Subscribed { .. });
    tokio::join!(connection.close(), peer.closed());

    // The certificate is for another name.
    let port = exchange.url.rsplit(':').next().unwrap();
    let other = exchange.config_at(&format!("wss://127.0.0.1:{port}"));
    let error = Connection::connect(other.build().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Network);
    assert!(error.source().unwrap().to_string().contains("not valid for name"), "{error:?}");
}

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn without_trust() {
    let mut exchange = encrypted_exchange().await;
    let error = Connection::connect(exchange.config().build().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Network);
    assert!(error.source().unwrap().to_string().contains("UnknownIssuer"), "{error:?}");
    assert!(exchange.peer_now().is_none(), "the handshake of the WebSocket was not made");
    assert!(exchange.signatures.lock().unwrap().is_empty(), "no signature left this machine");
}
