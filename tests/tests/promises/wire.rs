//! The tables over PostgreSQL's protocol: whoever reads them sees them right, and nobody writes, comes in without a key, or takes
//! the server from the others.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use clicks::ledger::sha256;
use promises::binary::twofold;
use promises::services::{jdbc, new_folder, notebook, psql, python};
use serde_json::Value;

use crate::tables::Bureau;

/// psql, notebooks (psycopg, asyncpg, SQLAlchemy, pandas) and a BI tool (JDBC) see the tables, and see them right.
#[tokio::test]
async fn clients_of_postgresql_read_the_tables() {
    let bureau = Bureau::open("keys", "").await;
    let key = bureau.key(&["--all-tenants", "--scope", "sql"]).await;
    let office = &bureau.office;
    let by_day =
        "SELECT day, sum(total) AS billed FROM clicks_day WHERE day >= DATE '2026-03-01' GROUP BY day ORDER BY day";
    let by_day = office.json(&["sql", by_day]).await;
    let by_day: Vec<Value> =
        by_day["rows"].as_array().unwrap().iter().map(|row| serde_json::json!([row["day"], row["billed"]])).collect();
    let count = async |sql: &str| office.json(&["sql", sql]).await["rows"][0]["n"].as_u64().unwrap();
    let hours = count("SELECT count(*) AS n FROM clicks_hour").await;
    let tables =
        ["adjustments", "ads", "clicks_day", "clicks_hour", "clicks_minute", "periods", "quality", "raw_clicks"];

    let told = notebook(bureau.port, &key).await.unwrap();
    for name in ["text", "binary", "asyncpg"] {
        assert_eq!(told[name], Value::from(by_day.clone()), "{name}: {told}");
    }
    let of_pandas: Vec<Value> =
        told["pandas"].as_array().unwrap().iter().filter(|row| row[0] != "2026-02-28").cloned().collect();
    assert!(by_day.iter().all(|row| of_pandas.contains(row)), "{told}");
    for name in ["cursor", "stream", "asyncpg cursor"] {
        assert_eq!(told[name], hours, "{name}: {told}");
    }
    assert_eq!(told["list"], 2, "{told}");
    assert_eq!((&told["refused"], &told["after a savepoint"]), (&"42000".into(), &1.into()), "{told}");
    assert_eq!(told["sqlalchemy"], serde_json::json!(tables), "{told}");
    // What Superset and other tools on SQLAlchemy find out before they ask.
    let columns = &told["columns"];
    assert_eq!(
        (&columns["day"], &columns["total"], &columns["ad_id"]),
        (&"DATE".into(), &"BIGINT".into(), &"TEXT".into()),
        "{told}"
    );
    assert_eq!(columns.as_object().map(serde_json::Map::len), Some(13), "{told}");
    assert_eq!(told["reflected"], by_day[0][1], "{told}");
    let amount = "SELECT sum(total * price) AS n FROM clicks_day JOIN ads ON clicks_day.ad_id = ads.ad_id AND day >= valid_from \
                  AND (valid_to IS NULL OR day < valid_to) WHERE currency = 'EUR'";
    assert_eq!(told["amount"], office.json(&["sql", amount]).await["rows"][0]["n"]);

    let told = jdbc(bureau.port, &key).await.unwrap();
    let want = |name: &str, value: &str| assert_eq!(told[name], value, "{name}: {told:?}");
    let mut found: Vec<&str> = told["tables"].split(',').collect();
    found.sort_unstable();
    assert_eq!(found, tables);
    want(
        "columns",
        "day,period_start,period_end,ad_id,class,clicks,adjustment,total,duplicates,late,state,revision,rules_version",
    );
    assert!(told["types"].starts_with("date,timestamptz,timestamptz,text,text,int8,int8,int8"), "{told:?}");
    want("primary keys", "");
    want("indexes", "");
    want("foreign keys", "");
    want("keys to it", "");
    want("type names", "int8");
    want("functions", "");
    want("by day", &by_day.iter().map(|row| row[1].to_string()).collect::<Vec<_>>().join(","));
    want("in parts", &hours.to_string());
    want("delete", "25006");
    want("after it", &hours.to_string());

    // What psql and the tools on top of it ask the catalog.
    let ask = async |sql: &str| psql(bureau.port, "ann", &key, sql).await.unwrap();
    for (command, parts) in [
        ("\\d", &["public,clicks_day,view,", "public,ads,table,"][..]),
        ("\\dt", &["public,periods,table,"]),
        ("\\dv", &["public,raw_clicks,view,"]),
        (
            "\\d clicks_day",
            &["day,date,,not null,", "total,bigint,,not null,", "period_start,timestamp with time zone,,not null,"],
        ),
        ("\\d+ clicks_day", &["day,date,,not null,", "total,bigint,,not null,"]),
        ("\\l", &["twofold,"]),
        ("\\dT", &["Schema,Name,Description"]),
        ("\\df", &["Schema,Name,"]),
        ("\\du", &["Role name,Attributes,"]),
        ("\\dp", &["public,clicks_day,view,"]),
        ("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pg/_cat%' ESCAPE '/'", &["pg_catalog"]),
        ("\\dn", &["public,"]),
        ("SELECT version()", &["PostgreSQL 16"]),
        ("SELECT current_database(), current_schema()", &["twofold,public"]),
        ("SHOW server_version", &["server_version"]),
        ("SHOW TIME ZONE", &["UTC"]),
        (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name",
            &["adjustments\nads\nclicks_day\nclicks_hour\nclicks_minute\nperiods\nquality\nraw_clicks"],
        ),
        (
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'periods' ORDER BY ordinal_position LIMIT 2",
            &["day,", "state,"],
        ),
        (
            "SELECT n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'public' AND c.relkind IN ('r', 'v') ORDER BY 2",
            &["public,ads,r", "public,clicks_day,v"],
        ),
        (
            "SELECT a.attname, t.typname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE c.relname = 'ads' AND a.attnum > 0 ORDER BY a.attnum",
            &["ad_id,", "price,numeric", "valid_from,date"],
        ),
        ("SELECT datname FROM pg_database", &["twofold"]),
    ] {
        let printed = ask(command).await;
        assert!(parts.iter().all(|part| printed.contains(part)), "{command}: {printed}");
    }
    // Ten thousand rows at a time, and never all of them.
    let printed = ask("\\set FETCH_COUNT 100\nSELECT ad_id FROM clicks_hour;").await;
    assert_eq!(printed.lines().count() as u64, hours + 1);
}

fn store_of(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => drop(files.insert(path.display().to_string(), sha256(&std::fs::read(&path).unwrap()))),
            }
        }
    }
    files
}

/// What the stock server lets through, and what a client could think of besides: refused, and every file is as it was.
#[tokio::test]
async fn whoever_tries_to_write_is_refused_and_no_file_has_changed() {
    let bureau = Bureau::open("auto", "").await;
    let before = store_of(&bureau.office.folder.join("store"));
    let target = bureau.office.path("stolen.csv");
    for attack in [
        "COPY (SELECT 1) TO 'TARGET'",
        "COPY clicks_day TO 'TARGET' STORED AS PARQUET",
        "COPY (SELECT 1) TO STDOUT",
        "COPY clicks_day FROM '/etc/passwd'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'TARGET'",
        "EXPLAIN COPY (SELECT 1) TO 'TARGET'",
        "EXPLAIN ANALYZE INSERT INTO clicks_day SELECT * FROM clicks_day",
        "PREPARE p AS COPY (SELECT 1) TO 'TARGET'",
        "DROP TABLE clicks_day",
        "DROP VIEW clicks_day",
        "DROP SCHEMA public CASCADE",
        "DELETE FROM ads",
        "UPDATE ads SET price = 0",
        "INSERT INTO ads SELECT * FROM ads",
        "TRUNCATE ads",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW clicks_day AS SELECT 1",
        "CREATE OR REPLACE VIEW clicks_day AS SELECT 1 AS total",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "SELECT 1 INTO x",
        "WITH gone AS (DELETE FROM ads RETURNING *) SELECT * FROM gone",
        "DECLARE c CURSOR FOR WITH gone AS (DELETE FROM ads RETURNING *) SELECT * FROM gone",
        "SET datafusion.runtime.memory_limit = '100G'",
        "SET datafusion.execution.target_partitions = 1000",
        "SET datafusion.catalog.default_schema = 'x'",
        "RESET datafusion.runtime.memory_limit",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT repeat('x', 2000000000)",
        "CALL x()",
        "DO 'x'",
        "LOAD 'x'",
        "VACUUM",
    ] {
        let attack = attack.replace("TARGET", &target);
        let refused = bureau.psql(&attack).await.unwrap_err();
        assert!(refused.contains("ERROR:"), "{attack}: {refused}");
        // By the other protocol, too, and behind a harmless one.
        let refused = bureau.psql(&format!("SELECT 1; {attack}")).await.unwrap_err();
        assert!(refused.contains("ERROR:"), "{attack}: {refused}");
        let program = format!(
            "import psycopg\nwith psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', autocommit=True) as c:\n    \
             try:\n        c.execute({attack:?}, prepare=True)\n        print('answered')\n    except psycopg.Error as e:\n        print('refused')",
            bureau.port
        );
        assert_eq!(python(&program, &[]).await.unwrap().trim(), "refused", "{attack}");
    }
    assert!(!Path::new(&target).exists());
    assert_eq!(store_of(&bureau.office.folder.join("store")), before);
    // And for nobody has anything changed.
    let rows = bureau.psql("SELECT count(*) FROM clicks_day").await.unwrap();
    let want = bureau.office.json(&["sql", "SELECT count(*) AS n FROM clicks_day"]).await;
    assert_eq!(rows, [want["rows"][0]["n"].to_string()]);
    // A zone is set for nothing: instead of other days than are meant there is a message.
    let zone = bureau.psql("SET TIME ZONE 'Asia/Kathmandu'").await.unwrap_err();
    assert!(zone.contains("write date_trunc('day', period_start AT TIME ZONE 'Asia/Kathmandu')"), "{zone}");
    // What would end the process, or make it hold what nobody needs.
    let harmful = format!(
        "import psycopg\nc = psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', autocommit=True)\n\
         def refused(sql):\n    \
             try:\n        c.execute(sql)\n        return 'answered'\n    except psycopg.Error as e:\n        return e.sqlstate\n\
         print(refused('SELECT ' + '1 + ' * 200000 + '1'), refused('SELECT ' + '(' * 10000 + '1' + ')' * 10000))\n\
         c.execute('DECLARE x CURSOR FOR SELECT ad_id FROM clicks_hour')\n\
         print(refused('FETCH 100000000000 FROM x'), refused('SELECT range(0, 1000000000)'), refused('SELECT 1; SELECT 2'))\n\
         print([refused(f'DECLARE c{{n}} CURSOR FOR SELECT 1') for n in range(20)].count('54000'), refused('SHOW ;'))\n\
         print(c.execute('SELECT 1').fetchone()[0])\n",
        bureau.port
    );
    let printed = python(&harmful, &[]).await.unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines, ["54001 42601", "42000 42000 answered", "1 42000", "1"], "{printed}");
    // What one client sets is its own.
    bureau
        .psql("SET TimeZone = 'Asia/Kathmandu'; SET search_path TO x; SET statement_timeout = '1ms'; SELECT 1")
        .await
        .unwrap_err();
    assert_eq!(bureau.psql("SELECT 1").await.unwrap(), ["1"]);
}

#[tokio::test]
async fn only_a_key_for_sql_opens_the_tables_and_only_as_long_as_it_is_one() {
    let folder = new_folder("tls").unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &file("key.pem"), "-out", &file("certificate.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tls = format!("tls_certificate = \"{}\"\ntls_key = \"{}\"", file("certificate.pem"), file("key.pem"));
    let bureau = Bureau::open("keys", &tls).await;
    let key = bureau.key(&["--all-tenants", "--scope", "sql"]).await;
    let read = bureau.key(&["--all-tenants", "--scope", "read"]).await;
    let (code, _, stderr) = bureau
        .office
        .run(&[
            "key",
            "create",
            "--name",
            "x",
            "--expires",
            "1h",
            "--actor",
            "ann",
            "--tenant",
            "acme",
            "--scope",
            "sql",
        ])
        .await;
    assert!(code == Some(2) && stderr.contains("`sql` is about the installation as a whole"), "{stderr}");

    let connect = |password: &str, more: &str| {
        format!(
            "import psycopg\nc = psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', password={password:?}{more})\n",
            bureau.port
        )
    };
    let try_it = async |password: &str, more: &str| {
        let program = format!(
            "import psycopg\ntry:\n    c = psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', password={password:?}{more})\n    \
             print(c.execute('SELECT count(*) FROM periods').fetchone()[0], c.pgconn.ssl_in_use)\nexcept psycopg.Error as e:\n    print(e)",
            bureau.port
        );
        python(&program, &[]).await.unwrap().trim().to_owned()
    };
    let trusted = format!(", sslmode='verify-full', sslrootcert={:?}", file("certificate.pem"));
    assert_eq!(try_it(&key, &trusted).await, "6 True");
    // In plain text not even a key is asked for.
    let plain = try_it(&key, ", sslmode='disable'").await;
    assert!(plain.contains("this server speaks TLS only"), "{plain}");
    for (password, part) in [
        ("", "password"),
        ("guess", "the password is no key of this installation"),
        (&format!("{}0", &key[..key.len() - 1]).replace(&key, "tfk_x"), "the password is no key of this installation"),
        (&read, "is not for SQL"),
    ] {
        let refused = try_it(password, &trusted).await;
        assert!(refused.contains(part), "{password}: {refused}");
    }

    // Whoever is turned away and goes on all the same gets nothing: here, by the bytes of the protocol.
    let rude = format!(
        "import socket, ssl, struct\n\
         s = socket.create_connection(('127.0.0.1', {}))\n\
         s.sendall(struct.pack('!ii', 8, 80877103)); assert s.recv(1) == b'S'\n\
         t = ssl.create_default_context(cafile={:?}).wrap_socket(s, server_hostname='127.0.0.1')\n\
         def message(kind, body): return kind + struct.pack('!i', len(body) + 4) + body\n\
         t.sendall(message(b'', struct.pack('!i', 196608) + b'user\\0x\\0database\\0twofold\\0\\0'))\n\
         query = message(b'Q', b'SELECT 4711 AS secret\\0')\n\
         try: t.sendall(message(b'p', b'wrong\\0') + query + query + message(b'P', b'\\0SELECT 4711\\0\\0\\0') + message(b'S', b'') + message(b'P', b'\\0SELECT ' + b'1+' * 500000 + b'1\\0\\0\\0'))\n\
         except OSError: pass\n\
         t.settimeout(3); seen = b''\n\
         try:\n    \
             while True:\n        \
                 part = t.recv(65536)\n        \
                 if not part: break\n        \
                 seen += part\n\
         except (TimeoutError, OSError): pass\n\
         print(b'4711' in seen, b'28P01' in seen)",
        bureau.port,
        file("certificate.pem")
    );
    assert_eq!(python(&rude, &[]).await.unwrap().trim(), "False True");
    // And it is not held against those who may come in: the place is free again, whether or not the rude one hangs up.
    let crowd = format!(
        "import socket, struct, ssl, time\n\
         held = []\n\
         for _ in range(100):\n    \
             try:\n        \
                 s = socket.create_connection(('127.0.0.1', {}))\n        \
                 s.sendall(struct.pack('!ii', 8, 80877103)); s.recv(1)\n        \
                 t = ssl._create_unverified_context().wrap_socket(s)\n        \
                 t.sendall(struct.pack('!ii', 18, 196608) + b'user\\0x\\0\\0\\0')\n        \
                 t.sendall(b'p' + struct.pack('!i', 10) + b'wrong\\0'); held.append(t)\n    \
             except OSError: pass\n\
         time.sleep(1.5)\nprint(len(held) > 50)",
        bureau.port
    );
    assert_eq!(python(&crowd, &[]).await.unwrap().trim(), "True");
    assert_eq!(try_it(&key, &trusted).await, "6 True");

    // A key that is revoked ends what was opened with it.
    let id = key[4..].split('_').next().unwrap().to_owned();
    let program = format!(
        "{}import sys, time\nprint(c.execute('SELECT 1').fetchone()[0]); c.commit()\nopen({:?}, 'w').close()\nbegun = time.time()\n\
         try:\n    \
             while time.time() - begun < 60:\n        c.execute('SELECT 1'); c.commit(); time.sleep(0.2)\n    print('still open')\n\
         except psycopg.Error as e:\n    print(str(e).splitlines()[0])",
        connect(&key, &trusted),
        file("connected")
    );
    let revoke = async {
        let begun = Instant::now();
        while !folder.join("connected").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody has connected");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bureau.office.done(&["key", "revoke", &id, "--reason", "gone", "--actor", "ann"]).await;
    };
    let (printed, ()) = tokio::join!(python(&program, &[]), revoke);
    let printed = printed.unwrap();
    assert!(printed.starts_with("1\n") && printed.contains("the key was revoked at"), "{printed}");
    assert!(try_it(&key, &trusted).await.contains("the key was revoked at"));
    let log = bureau.server.log();
    assert!(!log.contains(&key) && !log.contains("tfk_"), "a key stands in the log");

    // Without TLS nothing but this machine is served.
    for (address, more, part) in [
        ("0.0.0.0:0", "", "without TLS what is asked"),
        ("127.0.0.1:0", "tls_key = \"x\"", "sql.tls_certificate and sql.tls_key go together"),
        (
            "127.0.0.1:0",
            "tls_certificate = \"/no/such.pem\"\ntls_key = \"/no/such.pem\"",
            "`/no/such.pem` cannot be used for TLS",
        ),
    ] {
        let settings = bureau.office.path("other.toml");
        std::fs::write(
            &settings,
            format!("[storage]\nurl = \"file://{}\"\n[sql]\n{more}\n", bureau.office.path("store")),
        )
        .unwrap();
        let output = twofold().args(["--config", &settings, "serve", "--pgwire", address]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(part), "{address} {more}: {stderr}");
    }
}

/// One client cannot take the server from the others, and a transaction sees one state of the books.
#[tokio::test]
async fn questions_have_limits_and_transactions_see_one_state() {
    let bureau =
        Bureau::open("auto", "timeout = \"2s\"\nrows_max = 5000\nconnections_max = 3\nquestions_max = 1").await;
    let heavy = "SELECT count(*) FROM clicks_minute a, clicks_minute b, clicks_minute c WHERE a.clicks + b.clicks + c.clicks > 100";
    let late = bureau.psql(heavy).await.unwrap_err();
    assert!(late.contains("the answer did not come within 2s"), "{late}");
    let many = bureau.psql("SELECT * FROM clicks_minute").await.unwrap_err();
    assert!(many.contains("the answer has more than 5000 rows"), "{many}");
    let connect = format!(
        "import psycopg, threading, time\ndef connect(): return psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', autocommit=True)\n",
        bureau.port
    );
    // A question that has failed leaves its place to the next one, whoever goes on being connected.
    let failed = format!(
        "{connect}c, d = connect(), connect()\n\
         for sql in ('SELECT clikcs FROM clicks_day', 'DECLARE c CURSOR FOR SELECT 1/0', 'SELECT 1/0'):\n    \
             try: c.execute(sql)\n    except psycopg.Error as e: pass\n    print(d.execute('SELECT 1').fetchone()[0])\n"
    );
    assert_eq!(python(&failed, &[]).await.unwrap().lines().collect::<Vec<_>>(), ["1", "1", "1"]);
    // Asked to stop, it stops.
    let cancel = format!(
        "{connect}c = connect()\nthreading.Timer(0.5, c.cancel).start()\nbegun = time.time()\n\
         try:\n    c.execute({heavy:?})\n    print('answered')\n\
         except psycopg.Error as e:\n    print(e.sqlstate, time.time() - begun < 1.9)\n\
         print(c.execute('SELECT 1').fetchone()[0])\n\
         c.execute(\"SET statement_timeout = '300ms'\")\nbegun = time.time()\n\
         try:\n    c.execute({heavy:?})\n    print('answered')\n\
         except psycopg.Error as e:\n    print(e.sqlstate, time.time() - begun < 1.9)\n"
    );
    assert_eq!(python(&cancel, &[]).await.unwrap().lines().collect::<Vec<_>>(), ["57014 True", "1", "57014 True"]);
    // A cursor that nobody fetches from holds the one place only until its time is over.
    let idle = format!(
        "{connect}c, d = connect(), connect()\nc.execute('BEGIN')\nc.execute('DECLARE x CURSOR FOR SELECT ad_id FROM clicks_hour')\n\
         print(len(c.execute('FETCH 3 FROM x').fetchall()))\n\
         try:\n    print(d.execute('SELECT 1').fetchone()[0])\nexcept psycopg.Error as e:\n    print(e.sqlstate)\n\
         time.sleep(2.5)\nprint(d.execute('SELECT 1').fetchone()[0])\n"
    );
    let printed = python(&idle, &[]).await.unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0] == "3" && lines[2] == "1" && ["1", "53300"].contains(&lines[1]), "{printed}");
    // Many cursors of one connection, more rows than wait for a reader: all of them come.
    let many = format!(
        "{connect}c = connect()\nc.execute('BEGIN')\nc.execute('DECLARE a CURSOR FOR SELECT ad_id FROM clicks_minute LIMIT 4900')\n\
         rows = 0\nwhile True:\n    part = c.execute('FETCH 1000 FROM a').fetchall()\n    rows += len(part)\n    if not part: break\n\
         print(rows)\nc.execute('COMMIT')\nprint(c.execute('SELECT 1').fetchone()[0])\n"
    );
    assert_eq!(python(&many, &[]).await.unwrap().lines().collect::<Vec<_>>(), ["4900", "1"]);
    // No more clients than there is room for, and room again when they have gone.
    let full = format!(
        "{connect}some = [connect() for _ in range(3)]\n\
         try:\n    connect()\n    print('let in')\nexcept psycopg.Error:\n    print('turned away')\n\
         some.pop().close()\ntime.sleep(1)\nprint(connect().execute('SELECT 1').fetchone()[0])\n"
    );
    assert_eq!(python(&full, &[]).await.unwrap().lines().collect::<Vec<_>>(), ["turned away", "1"]);

    // A transaction sees the books as they were when it began.
    let (ready, decided) = (bureau.office.path("ready"), bureau.office.path("decided"));
    let snapshot = format!(
        "{connect}import os\nc = connect()\nheld = lambda: c.execute(\"SELECT held FROM periods WHERE day = '2026-03-05'\").fetchone()[0]\n\
         with c.transaction():\n    before = held()\n    open({ready:?}, 'w').close()\n    \
         while not os.path.exists({decided:?}): time.sleep(0.05)\n    time.sleep(1.5)\n    print(before, held())\nprint(held())\n"
    );
    let decide = async {
        let begun = Instant::now();
        while !Path::new(&ready).exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no transaction has begun");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bureau
            .office
            .done(&["period", "hold", "--date", "2026-03-05", "--reason", "a partner asks", "--actor", "ann"])
            .await;
        std::fs::write(&decided, "").unwrap();
    };
    let (printed, ()) = tokio::join!(python(&snapshot, &[]), decide);
    assert_eq!(printed.unwrap().lines().collect::<Vec<_>>(), ["False False", "True"]);
}
