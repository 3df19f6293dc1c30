//! `kalshi exchange`.

use crate::support::{Folder, Setup, bare, run};

#[tokio::test]
async fn the_status_is_shown_in_each_form() {
    let setup = Setup::new().await;
    let table = setup.run(&["exchange", "status"]).await.ok();
    assert_eq!(
        table,
        "exchange_active                  true\n\
         trading_active                   true\n\
         exchange_estimated_resume_time\n\
         intra_exchange_transfers_active  true\n"
    );
    let json = setup.run(&["exchange", "status", "-o", "json"]).await.json();
    assert_eq!(json["trading_active"], true);
    assert!(json["exchange_index_statuses"].is_array());
    let csv = ["exchange", "status", "-o", "csv", "--fields", "trading_active,exchange_active"];
    assert_eq!(setup.run(&csv).await.ok(), "trading_active,exchange_active\ntrue,true\n");
    let line = ["exchange", "status", "-o", "ndjson", "--fields", "trading_active"];
    assert_eq!(setup.run(&line).await.ok(), "{\"trading_active\":true}\n");
    assert_eq!(setup.asked(0), ["get_exchange_status"; 4]);
}

#[tokio::test]
async fn the_embedded_exchange_needs_no_account() {
    let folder = Folder::new();
    let ran = run(bare(&folder, &["--env", "sim", "exchange", "status"])).await;
    assert!(ran.ok().starts_with("exchange_active "));
}
