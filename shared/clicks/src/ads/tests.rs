use proptest::prelude::*;

use super::*;

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

/// `ad tenant/campaign name price since`.
fn row(text: &str) -> AdRow {
    let mut parts = text.split(' ');
    let mut next = || parts.next().unwrap_or_else(|| panic!("{text}"));
    let (ad, home, name, price, since) = (next(), next(), next(), next(), next());
    let (tenant, campaign) = home.split_once('/').unwrap();
    AdRow {
        ad: AdId::parse(ad).unwrap(),
        tenant: TenantId::parse(tenant).unwrap(),
        campaign: CampaignId::parse(campaign).unwrap(),
        name: name.into(),
        price: (price != "-").then(|| Price { amount: price.parse().unwrap(), currency: Currency::EUR }),
        valid_from: day(since),
    }
}

fn table(rows: &[&str]) -> AdsTable {
    AdsTable::new(rows.iter().map(|text| row(text)).collect()).unwrap()
}

fn ad(name: &str) -> AdId {
    AdId::parse(name).unwrap()
}

const FILE: &str = "\u{feff}valid_from,currency,ad_id,tenant,campaign,name,price\r\n\
    2026-03-01,EUR,ad-1,acme,spring,\"Red shoes, \"\"large\"\"\",0.250\r\n\
    \r\n\
    2026-03-02,,ad-2,acme,spring, Blue shoes ,\r\n";

#[test]
fn a_file_of_a_spreadsheet_is_read_and_stored_in_one_spelling() {
    let rows = parse(FILE.as_bytes()).unwrap();
    assert_eq!(&*rows[0].name, "Red shoes, \"large\"");
    assert_eq!(rows[0].price.unwrap().amount.to_string(), "0.25");
    assert_eq!((&*rows[1].name, rows[1].price), ("Blue shoes", None));
    let stored = "ad_id,tenant,campaign,name,price,currency,valid_from\n\
        ad-1,acme,spring,\"Red shoes, \"\"large\"\"\",0.25,EUR,2026-03-01\n\
        ad-2,acme,spring,Blue shoes,,,2026-03-02\n";
    assert_eq!(String::from_utf8(to_csv(&rows)).unwrap(), stored);
    assert_eq!(parse(stored.as_bytes()).unwrap(), rows);
}

#[test]
fn a_file_that_cannot_be_used_is_told_line_by_line() {
    let head = "ad_id,tenant,campaign,name,price,currency,valid_from\n";
    let lines = [
        ("a/b,t,c,n,1,EUR,2026-03-01", "line 2: `ad_id`: `a/b` has the character '/'"),
        ("a,,c,n,1,EUR,2026-03-01", "`tenant`: `` is empty"),
        ("a,t,c d,n,1,EUR,2026-03-01", "`campaign`: `c d` has the character ' '"),
        ("a,t,c,,1,EUR,2026-03-01", "`name`: `` is empty"),
        ("a,t,c,=1+1,1,EUR,2026-03-01", "`name`: `=1+1` begins with =, +, - or @"),
        ("a,t,c,x\u{2028}y,1,EUR,2026-03-01", "has a line break or another control character"),
        ("a,t,c,\u{200b}=1,1,EUR,2026-03-01", "has a line break or another control character"),
        ("a,t,c,\u{ff1d}1+1,1,EUR,2026-03-01", "begins with =, +, - or @"),
        ("a,t,c,n,1000001,EUR,2026-03-01", "is more than 1000000"),
        ("a,t,c,x\u{202e}y,1,EUR,2026-03-01", "has a line break or another control character"),
        ("a,t,c,\"x\ny\",1,EUR,2026-03-01", "`name`: `x\ny` has a line break"),
        ("a,t,c,n,\"1,5\",EUR,2026-03-01", "`price`: `1,5` is no amount such as 0.25"),
        ("a,t,c,n,-1,EUR,2026-03-01", "`price`: `-1` is no amount"),
        ("a,t,c,n,1e3,EUR,2026-03-01", "`price`: `1e3` is no amount"),
        ("a,t,c,n,99999999999999999999999999999999,EUR,2026-03-01", "is no amount"),
        ("a,t,c,n,0.0000001,EUR,2026-03-01", "has more than 6 decimals"),
        ("a,t,c,n,1,,2026-03-01", "`currency` is empty, and `price` is `1`"),
        ("a,t,c,n,,EUR,2026-03-01", "`price` is empty, and `currency` is `EUR`"),
        ("a,t,c,n,1,EUX,2026-03-01", "`EUX` is no currency"),
        ("a,t,c,n,1,eur,2026-03-01", "`eur` is no currency"),
        ("a,t,c,n,1,EUR,01.03.2026", "`01.03.2026` is not a day such as 2026-03-01"),
        ("a,t,c,n,1,5,EUR,2026-03-01", "it has 8 values, and there are 7 columns"),
    ];
    for (line, reason) in lines {
        let error = parse(format!("{head}{line}\n").as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 2: ") && error.contains(reason), "{line}: {error}");
    }
    let latin = parse(&[head.as_bytes(), b"a,t,c,caf\xe9,1,EUR,2026-03-01\n"].concat()).unwrap_err().to_string();
    assert!(latin.starts_with("line 2: it is not UTF-8"), "{latin}");
    let many: String = (0..30).map(|n| format!("ad-{n},t,c,n,x,EUR,2026-03-01\n\n")).collect();
    let error = parse(format!("{head}{many}").as_bytes()).unwrap_err().to_string();
    assert!(error.contains("line 20: ") && error.ends_with("and 20 lines more"), "{error}");
    for (file, reason) in [
        ("", "`ad_id` is missing"),
        ("ad_id,tenant,campaign,name,price,currency\n", "`valid_from` is missing"),
        ("ad_id,ad_id,tenant,campaign,name,price,currency,valid_from\n", "`ad_id` is there twice"),
        ("ad_id,tenant,campaign,name,prize,currency,valid_from\n", "`prize` is none of them"),
        (head, "the file holds no ads"),
    ] {
        let error = parse(file.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(reason), "{file}: {error}");
    }
}

#[test]
fn an_ad_has_one_home_and_a_row_for_each_time() {
    let rows = ["b t/x B - 2026-01-01", "a t/x A2 2 2026-03-01", "a t/x A1 1 2026-02-01", "c s/x C - 2026-01-01"];
    let table = table(&rows);
    assert_eq!((table.ads_count(), table.campaigns().len(), table.tenants().count()), (3, 2, 2));
    let name_on = |text: &str| table.row_on(&ad("a"), day(text)).map(|row| row.name.to_string());
    assert_eq!(name_on("2026-01-31").as_deref(), Some("A1"), "its first row, before that");
    assert_eq!(name_on("2026-02-28").as_deref(), Some("A1"));
    assert_eq!(name_on("2026-03-01").as_deref(), Some("A2"));
    assert_eq!(table.tenant_of(&ad("c")).map(TenantId::as_str), Some("s"));
    assert_eq!(table.tenant_of(&ad("d")), None);
    assert_eq!(table.row_on(&ad("d"), day("2026-03-01")), None);

    let refused = |rows: &[&str]| AdsTable::new(rows.iter().map(|text| row(text)).collect()).unwrap_err().to_string();
    let twice = refused(&["a t/x A - 2026-01-01", "a t/x B - 2026-01-01"]);
    assert!(twice.starts_with("ad `a` has two rows that are valid from 2026-01-01"), "{twice}");
    let moved = refused(&["a t/x A - 2026-01-01", "a t/y A - 2026-02-01"]);
    assert!(moved.starts_with("ad `a` belongs to `t/x` from 2026-01-01 and to `t/y` from 2026-02-01"), "{moved}");
}

#[test]
fn a_file_adds_and_replaces_rows_and_takes_none_away() {
    let before = table(&["a t/x A 1 2026-01-01", "b t/x B - 2026-01-01", "c t/x C - 2026-01-01"]);
    let rows = ["a t/x A 2 2026-02-01", "b s/x B - 2026-01-01", "c t/x C - 2026-01-01", "d t/x D - 2026-01-01"];
    let after = before.with(rows.iter().map(|text| row(text)).collect()).unwrap();
    assert_eq!(after.rows().len(), 5);
    let change = after.change_from(&before);
    assert_eq!(change, Change { added: 2, changed: 1, removed: 0, same: 2, moved: vec![ad("b")], gone: vec![] });
    let back = before.change_from(&after);
    assert_eq!(back, Change { added: 0, changed: 1, removed: 2, same: 2, moved: vec![ad("b")], gone: vec![ad("d")] });
    assert!(before.with(before.rows().to_vec()).unwrap().change_from(&before).is_nothing());
    assert!(before.with(vec![row("a t/y A - 2026-02-01")]).is_err(), "the row that stays has another campaign");
}

#[test]
fn groups_hold_every_selected_ad_once() {
    let table = Arc::new(table(&["a s/x A - 2026-01-01", "b t/x B - 2026-01-01", "c t/y C - 2026-01-01"]));
    let tenant = |name: &str| Selection { tenants: vec![TenantId::parse(name).unwrap()], ..Selection::default() };
    let campaign = |name: &str| Selection { campaigns: vec![CampaignId::parse(name).unwrap()], ..Selection::default() };
    let cases = [
        (Selection::default(), GroupBy::All, 1, [Some(0), Some(0), Some(0), Some(0)]),
        (Selection::default(), GroupBy::Tenant, 3, [Some(0), Some(1), Some(1), Some(2)]),
        (Selection::default(), GroupBy::Campaign, 4, [Some(0), Some(1), Some(2), Some(3)]),
        (tenant("t"), GroupBy::All, 1, [None, Some(0), Some(0), None]),
        (tenant("t"), GroupBy::Campaign, 2, [None, Some(0), Some(1), None]),
        (campaign("x"), GroupBy::All, 1, [Some(0), Some(0), None, None]),
        (campaign("x"), GroupBy::Tenant, 2, [Some(0), Some(1), None, None]),
        (tenant("nobody"), GroupBy::All, 0, [None; 4]),
    ];
    for (selection, by, count, homes) in cases {
        let groups = Groups::new(table.clone(), &selection, by);
        assert_eq!(groups.names().len(), count, "{selection:?} {by:?}");
        assert_eq!(["a", "b", "c", "unknown"].map(|name| groups.of(&ad(name))), homes, "{selection:?} {by:?}");
    }
    let nobody = Groups::new(Arc::default(), &Selection::default(), GroupBy::Campaign);
    assert_eq!((nobody.names(), nobody.of(&ad("a"))), (&[Group::Unknown][..], Some(0)));
}

#[test]
fn the_record_of_a_version_is_of_one_format() {
    let rows = RowsRef { key: rows_key("5f"), sha256: "5f".to_owned(), bytes: 9, count: 1 };
    let at = crate::time::Timestamp::EPOCH;
    let record = AdsVersion::new(3, rows, at, "ann".to_owned(), "ads.csv".to_owned(), Change::default());
    let bytes = record.encode();
    assert_eq!(AdsVersion::decode(3, &bytes).unwrap(), record);
    assert!(AdsVersion::decode(4, &bytes).unwrap_err().to_string().contains("names version 3"));
    let newer = AdsVersion::decode(3, b"{\"format\":2}").unwrap_err().to_string();
    assert!(newer.ends_with("update the release"), "{newer}");
    assert_eq!(number_of(&version_key(3)), Some(3));
    for key in ["ads/v1/3.json", "ads/v1/rows/5f.csv", "ads/v1/00000000000000000003.csv", "x"] {
        assert_eq!(number_of(key), None, "{key}");
    }
}

proptest! {
    #[test]
    fn any_rows_survive_the_file(rows in prop::collection::vec(any_row(), 1..20)) {
        prop_assert_eq!(parse(&to_csv(&rows)).unwrap(), rows);
    }

    #[test]
    fn no_file_breaks_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
        let head = if head { COLUMNS.join(",") + "\n" } else { String::new() };
        let _ = parse(&[head.as_bytes(), &bytes].concat());
    }
}

fn any_row() -> impl Strategy<Value = AdRow> {
    let price = prop::option::of((0..1_000_000u64, 0..=6u32));
    let currency = prop::sample::select(&[Currency::EUR, Currency::USD, Currency::JPY][..]);
    let name = "[!-*,./0-<>?A-~äß\u{20ac}]([ -~äß\u{20ac}]{0,20}[!-~])?";
    ("[A-Za-z0-9_.-]{1,9}", "[a-z]{1,9}", "[a-z]{1,9}", name, price, currency, 0..40_000i32).prop_map(
        |(ad, tenant, campaign, name, price, currency, day)| AdRow {
            ad: AdId::parse(&ad).unwrap(),
            tenant: TenantId::parse(&tenant).unwrap(),
            campaign: CampaignId::parse(&campaign).unwrap(),
            name: name.into(),
            price: price
                .map(|(digits, scale)| Price { amount: Decimal::new(digits as i64, scale).normalize(), currency }),
            valid_from: Day::from_number(day),
        },
    )
}
