//! The archive is the topic, record by record, on real Kafka and real S3; and anybody's tool reads it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use archive::chain::{Chain, read_chain};
use archive::codec::decode;
use archive::{ArchiveError, Handle, Options};
use bytes::Bytes;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, UserId};
use clicks::ledger::{Body, Genesis};
use clicks::position::Offset;
use clicks::rules::Rules;
use clicks::time::{Span, Timestamp};
use clicks::wire::{HEADER_CONTROL, HEADER_RECEIVED, HEADER_USER_AGENT};
use platform::clock::{Clock, SystemClock};
use platform::ledger::Ledger;
use platform::log::{Header, KafkaLog, KafkaOptions, Log, LogRecord, NewRecord, Target};
use platform::objects::{Objects, S3Options};
use promises::services::{Shared, duckdb, shared};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 3;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A topic, a bucket and a ledger of this test's own.
struct Place {
    services: &'static Shared,
    log: Arc<KafkaLog>,
    objects: Objects,
    ledger: Ledger,
    bucket: String,
}

impl Place {
    async fn new(name: &str) -> Result<Self> {
        let services = shared().await?;
        create_topic(&services.kafka.brokers(), name).await?;
        let options = KafkaOptions::new(&services.kafka.brokers(), name, Region::parse("eu")?);
        let log = Arc::new(KafkaLog::connect(options).await?);
        services.s3.create_bucket(name)?;
        let s3 = S3Options {
            endpoint: Some(services.s3.endpoint()),
            region: Some(services.s3.region().to_owned()),
            access_key: Some(services.s3.access_key().to_owned()),
            secret_key: Some(services.s3.secret_key().to_owned()),
        };
        // A prefix too, so that keys and paths are told apart.
        let objects = Objects::open(&format!("s3://{name}/twofold"), &s3)?;
        let ledger = Ledger::new(objects.clone());
        let topic = log.topic().await?;
        let mut books = ledger.begin(Genesis { first_day: SystemClock.now().day(), rules: Rules::default() }).await?;
        ledger.publish(&mut books, Body::Topic(topic.life())).await?;
        Ok(Place { services, log, objects, ledger, bucket: name.to_owned() })
    }

    fn start(&self, options: Options) -> (JoinHandle<Result<(), ArchiveError>>, Handle, CancellationToken) {
        let (handle, stop) = (options.handle.clone(), CancellationToken::new());
        let (log, clock) = (self.log.clone(), Arc::new(SystemClock));
        let archiver = archive::run(options, log, self.objects.clone(), self.ledger.clone(), clock, stop.clone());
        (tokio::spawn(archiver), handle, stop)
    }

    async fn chain(&self, number: u32) -> Result<Chain> {
        Ok(read_chain(&self.objects, &self.log.topic().await?.partition(number)).await?)
    }

    async fn archived(&self, number: u32) -> Result<Vec<LogRecord>> {
        let mut records = Vec::new();
        for segment in self.chain(number).await?.segments {
            let object = self.objects.get(&segment.key.to_string()).await?.context("it was listed")?;
            records.extend(decode(object)?.into_iter().map(|(record, _)| record));
        }
        Ok(records)
    }

    async fn logged(&self, number: u32, end: Offset) -> Result<Vec<LogRecord>> {
        let mut reader = self.log.open(number, Offset::ZERO).await?;
        let mut records = Vec::new();
        while (records.len() as u64) < end.value() {
            records.extend(reader.poll(1_000, Duration::from_secs(1)).await?);
        }
        records.truncate(end.value() as usize);
        Ok(records)
    }
}

async fn create_topic(brokers: &str, name: &str) -> Result<()> {
    let admin = admin(brokers)?;
    let topic = NewTopic::new(name, PARTITIONS as i32, TopicReplication::Fixed(1))
        .set("message.timestamp.type", "LogAppendTime")
        .set("retention.ms", "-1");
    for created in admin.create_topics([&topic], &AdminOptions::new()).await? {
        created.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
    }
    Ok(())
}

fn click(number: u64) -> Click {
    Click {
        click_id: ClickId::from_u128(u128::from(number) << 64 | 7),
        ad_id: AdId::parse(&format!("ad-{}", number % 50)).unwrap(),
        user_id: UserId::parse(&format!("user-{}", number % 700)).unwrap(),
        event_time: Timestamp::from_millis(1_772_366_400_000 + number as i64),
    }
}

/// What a topic holds: mostly clicks as the collector writes them, now and then what nobody meant.
fn record(number: u64) -> (Target, NewRecord) {
    let header = |name: &str, value: &str| Header { name: name.to_owned(), value: Some(value.to_owned().into()) };
    let click = click(number);
    let value: Bytes = clicks::wire::encode(&click).into();
    let key = Some(Bytes::copy_from_slice(click.ad_id.as_str().as_bytes()));
    let headers = vec![header(HEADER_RECEIVED, &number.to_string()), header(HEADER_USER_AGENT, "curl/8.0 \u{1f980}")];
    let plain = NewRecord { key, value: Some(value), headers };
    let odd = Target::Partition((number % u64::from(PARTITIONS)) as u32);
    match number % 100 {
        0 => (odd, NewRecord { value: Some(Bytes::from_static(b"{\"ad_id\":")), ..plain }),
        1 => (odd, NewRecord { value: None, headers: Vec::new(), ..plain }),
        2 => (odd, NewRecord { key: None, value: Some(vec![0xff; 3_000].into()), headers: Vec::new() }),
        3 => (odd, NewRecord { key: Some(Bytes::new()), value: Some(Bytes::new()), ..plain }),
        4 => {
            let spaced = clicks::wire::encode(&click).replace(',', " , ");
            (Target::Key, NewRecord { value: Some(spaced.into()), ..plain })
        }
        5 => {
            let null = Header { name: "trace".to_owned(), value: None };
            let repeated = vec![header("a", "1"), null, header("a", "2"), header(HEADER_USER_AGENT, "x")];
            (Target::Key, NewRecord { headers: repeated, ..plain })
        }
        _ => (Target::Key, plain),
    }
}

async fn append(log: &KafkaLog, numbers: std::ops::Range<u64>) -> Result<()> {
    let appends = numbers.map(|number| {
        let (target, record) = record(number);
        log.append(target, record)
    });
    futures::future::try_join_all(appends).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_archive_is_the_topic_and_any_tool_reads_it() -> Result<()> {
    let place = Place::new(&format!("archive-{}", uuid::Uuid::new_v4().simple())).await?;
    let options = || Options {
        object_records_max: 700,
        heartbeat_interval: Span::millis(200),
        handle: Handle::default(),
        ..Options::default()
    };
    // The first archiver is killed in the middle, the second goes on at the end of the chain.
    let (first, handle, _) = place.start(options());
    append(&place.log, 0..3_000).await?;
    tokio::time::timeout(WAIT_MAX, handle.cut_now()).await??;
    append(&place.log, 3_000..4_500).await?;
    first.abort();
    _ = first.await;
    append(&place.log, 4_500..6_000).await?;
    let (second, handle, stop) = place.start(options());
    tokio::time::timeout(WAIT_MAX, handle.cut_now()).await??;
    stop.cancel();
    second.await??;

    let mut rows = 0;
    let mut controls = 0;
    for number in 0..PARTITIONS {
        let archived = place.archived(number).await?;
        let end = place.chain(number).await?.next_offset().context("something is stored")?;
        ensure!(archived == place.logged(number, end).await?, "partition {number} is not archived as it is on the log");
        ensure!(place.chain(number).await?.segments.iter().any(|s| s.footer.partitions == Some(PARTITIONS)));
        controls += archived.iter().filter(|record| record.is_control()).count();
        rows += archived.len();
    }
    ensure!(rows - controls == 6_000, "{rows} rows, {controls} of them control records");
    ensure!(controls > 0);

    let files = place.services.s3.root().join(&place.bucket).join("twofold/raw/v1/**/*.parquet");
    let files = format!("read_parquet('{}', hive_partitioning = true)", files.display());
    let counted = duckdb(&format!(
        "SELECT count(*), count(*) FILTER (kind = 0), count(DISTINCT click_id), count(*) FILTER (kind = 1) FROM {files}"
    ))
    .await?;
    // Of each hundred, four are no clicks.
    ensure!(counted == [[rows.to_string(), "5760".to_owned(), "5760".to_owned(), controls.to_string()]], "{counted:?}");
    let wanted = click(4_242);
    let id = wanted.click_id.to_string().replace('-', "").to_uppercase();
    let found = duckdb(&format!(
        "SELECT ad_id, user_id, epoch_ms(event_time), region FROM {files} WHERE hex(click_id) = '{id}'"
    ))
    .await?;
    let expected = [
        wanted.ad_id.to_string(),
        wanted.user_id.to_string(),
        wanted.event_time.as_millis().to_string(),
        "eu".to_owned(),
    ];
    ensure!(found == [expected], "{found:?}");
    Ok(())
}

/// Two archivers on every partition of a real store: one wins each object, none is doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_archivers_store_every_record_once() -> Result<()> {
    let place = Place::new(&format!("rivals-{}", uuid::Uuid::new_v4().simple())).await?;
    let options = |records_max: u64, writer: &str| Options {
        object_records_max: records_max,
        writer: writer.to_owned(),
        ..Options::default()
    };
    let rivals = [place.start(options(100, "a")), place.start(options(130, "b"))];
    for hundreds in 0..20 {
        append(&place.log, hundreds * 100..(hundreds + 1) * 100).await?;
    }
    for (_, handle, _) in &rivals {
        tokio::time::timeout(WAIT_MAX, handle.cut_now()).await??;
    }
    for (archiver, _, stop) in rivals {
        stop.cancel();
        archiver.await??;
    }
    let mut clicks = 0;
    for number in 0..PARTITIONS {
        let archived = place.archived(number).await?;
        ensure!(archived == place.logged(number, Offset::new(archived.len() as u64)).await?);
        clicks += archived.iter().filter(|record| record.header(HEADER_CONTROL).is_none()).count();
    }
    ensure!(clicks == 2_000, "{clicks}");
    Ok(())
}

/// What Kafka deleted before it was archived is a gap of the chain, and a topic that was created again ends the chains of
/// its life before: on a real log and in a real store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_the_log_is_a_recorded_gap_and_a_topic_that_is_gone_ends_its_chains() -> Result<()> {
    let name = format!("lossy-{}", uuid::Uuid::new_v4().simple());
    let place = Place::new(&name).await?;
    let options = || Options { end_after: Span::seconds(1), handle: Handle::default(), ..Options::default() };
    let (first, handle, stop) = place.start(options());
    append(&place.log, 0..900).await?;
    tokio::time::timeout(WAIT_MAX, handle.cut_now()).await??;
    stop.cancel();
    first.await??;
    let stored = place.chain(0).await?.next_offset().context("something is stored")?;

    append(&place.log, 900..1_800).await?;
    let kept = stored.plus(50);
    ensure!(kept < place.log.bounds(0).await?.end);
    delete_records(&place.services.kafka.brokers(), &name, 0, kept).await?;
    let (second, handle, stop) = place.start(options());
    append(&place.log, 1_800..2_100).await?;
    tokio::time::timeout(WAIT_MAX, handle.cut_now()).await??;
    stop.cancel();
    second.await??;
    let gaps = |chain: &Chain| chain.gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>();
    ensure!(gaps(&place.chain(0).await?) == [(stored, kept)], "{:?}", place.chain(0).await?.gaps);
    for number in 1..PARTITIONS {
        ensure!(place.chain(number).await?.gaps.is_empty());
    }
    // Nothing but the gap is missing: not before it, not behind.
    let archived = place.archived(0).await?;
    let (before, behind): (Vec<_>, Vec<_>) = archived.into_iter().partition(|record| record.offset < stored);
    ensure!(before.iter().map(|record| record.offset).eq((0..stored.value()).map(Offset::new)));
    let end = place.chain(0).await?.next_offset().context("something is stored")?;
    ensure!(behind.iter().map(|record| record.offset).eq((kept.value()..end.value()).map(Offset::new)));

    let old = place.log.topic().await?;
    let admin = admin(&place.services.kafka.brokers())?;
    for deleted in admin.delete_topics(&[&name], &AdminOptions::new()).await? {
        deleted.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
    }
    tokio::time::timeout(WAIT_MAX, async {
        // A broker takes its time to forget a name.
        while create_topic(&place.services.kafka.brokers(), &name).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await?;
    let options_of_log = KafkaOptions::new(&place.services.kafka.brokers(), &name, Region::parse("eu")?);
    let found = tokio::time::timeout(WAIT_MAX, async {
        loop {
            // Nor does it learn one at once.
            let log = KafkaLog::connect(options_of_log.clone()).await?;
            match log.topic().await {
                Ok(topic) if topic.id != old.id => return anyhow::Ok((log, topic)),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    let (log, new) = found.await??;
    let place = Place { log: Arc::new(log), ..place };
    let mut books = place.ledger.read().await?;
    place.ledger.publish(&mut books, Body::Topic(new.life())).await?;
    let (third, handle, stop) = place.start(options());
    append(&place.log, 0..300).await?;
    tokio::time::timeout(WAIT_MAX, handle.cut_now()).await??;
    let ended = async {
        for number in 0..PARTITIONS {
            while read_chain(&place.objects, &old.partition(number)).await?.end.is_none() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WAIT_MAX, ended).await??;
    stop.cancel();
    third.await??;
    let chain = read_chain(&place.objects, &old.partition(0)).await?;
    ensure!(chain.end.is_some_and(|mark| mark.end == end), "the chain ends where it was stored to");
    ensure!(place.chain(0).await?.end.is_none() && place.chain(0).await?.next_offset().is_some());
    Ok(())
}

fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", brokers).create()?)
}

/// Deletes the records of a partition before an offset, as retention would.
async fn delete_records(brokers: &str, topic: &str, partition: u32, before: Offset) -> Result<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition as i32, rdkafka::Offset::Offset(before.value() as i64))?;
    let done = admin(brokers)?.delete_records(&list, &AdminOptions::new()).await?;
    Ok(done.elements()[0].error()?)
}
