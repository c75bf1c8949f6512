//! The log port on real Kafka: the conformance suite, and what only Kafka can get wrong.

use std::time::Duration;

use bytes::Bytes;
use clicks::id::Region;
use clicks::position::Offset;
use futures::future::join_all;
use platform::log::conformance::{self, LogUnderTest};
use platform::log::{
    KafkaLog, KafkaOptions, Log, LogError, NewRecord, Severity, Target, TopicError, TopicReport, TopicSpec,
};
use promises::services;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, TopicPartitionList};

const LONG: Duration = Duration::from_secs(30);

fn options(brokers: &str) -> KafkaOptions {
    let topic = format!("log-{}", uuid::Uuid::new_v4());
    KafkaOptions::new(brokers, &topic, Region::parse("eu").unwrap())
}

async fn shared_options() -> KafkaOptions {
    options(&services::shared().await.unwrap().kafka.brokers())
}

fn spec(partitions: u32) -> TopicSpec {
    TopicSpec { partitions, replication_factor: 1, ..TopicSpec::default() }
}

fn admin(options: &KafkaOptions) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap()
}

fn record(value: &str) -> NewRecord {
    NewRecord { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..NewRecord::default() }
}

/// A topic as somebody else would create it.
async fn create_foreign(options: &KafkaOptions, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(&options.topic, 2, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let operation = AdminOptions::new().operation_timeout(Some(LONG));
    for created in admin(options).create_topics([&new], &operation).await.unwrap() {
        created.unwrap();
    }
}

#[derive(Debug)]
struct OnKafka {
    brokers: String,
}

impl LogUnderTest for OnKafka {
    type Log = KafkaLog;

    async fn fresh(&self, partitions: u32) -> KafkaLog {
        let options = options(&self.brokers);
        KafkaLog::create_topic(&options, &spec(partitions)).await.unwrap();
        KafkaLog::connect(options).await.unwrap()
    }

    async fn delete_records(&self, log: &KafkaLog, partition: u32, before: Offset) {
        let mut list = TopicPartitionList::new();
        let offset = rdkafka::Offset::Offset(before.value() as i64);
        list.add_partition_offset(&log.options().topic, partition as i32, offset).unwrap();
        let operation = AdminOptions::new().operation_timeout(Some(LONG));
        let done = admin(log.options()).delete_records(&list, &operation).await.unwrap();
        done.elements()[0].error().unwrap();
    }

    async fn recreate(&self, log: &KafkaLog, partitions: u32) {
        let options = log.options();
        let before = log.topic().await.unwrap();
        let operation = AdminOptions::new().operation_timeout(Some(LONG));
        for deleted in admin(options).delete_topics(&[&options.topic], &operation).await.unwrap() {
            deleted.unwrap();
        }
        // The brokers take a moment to forget the old life.
        let again = async {
            loop {
                match KafkaLog::create_topic(options, &spec(partitions)).await {
                    Ok(topic) if topic.id != before.id => return,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(LONG, again).await.expect("the topic is created again");
    }

    fn keys(&self) -> usize {
        600
    }
}

#[tokio::test]
async fn kafka_conforms() {
    let brokers = services::shared().await.unwrap().kafka.brokers();
    conformance::suite(&OnKafka { brokers }).await;
}

#[tokio::test]
async fn a_topic_of_ours_is_created_once_and_found_right() {
    let options = shared_options().await;
    let missing = KafkaLog::connect(options.clone()).await.unwrap_err();
    assert!(matches!(&missing, LogError::NoTopic(name) if *name == options.topic), "{missing}");
    assert!(missing.to_string().contains("twofold topic create"), "{missing}");

    let created = KafkaLog::create_topic(&options, &spec(3)).await.unwrap();
    assert_eq!((created.partitions, &created.name), (3, &options.topic));
    assert_eq!(KafkaLog::create_topic(&options, &spec(3)).await.unwrap(), created, "a second call changes nothing");
    let other = KafkaLog::create_topic(&options, &spec(4)).await.unwrap_err();
    assert!(matches!(other, TopicError::Partitions { found: 3, wanted: 4, .. }), "{other}");

    let TopicReport { topic, replication_factor, brokers, findings } = KafkaLog::check_topic(&options).await.unwrap();
    assert_eq!((topic, replication_factor, brokers), (created, 1, 1));
    let warned: Vec<_> = findings.iter().map(|finding| (finding.setting.as_str(), finding.severity)).collect();
    // All that a single broker lacks, and nothing else.
    assert_eq!(warned, [("replication.factor", Severity::Warn), ("min.insync.replicas", Severity::Warn)]);

    let many = TopicSpec { replication_factor: 3, ..spec(1) };
    let refused = KafkaLog::create_topic(&shared_options().await, &many).await.unwrap_err();
    assert!(refused.to_string().contains("lower replication factor"), "{refused}");
}

#[tokio::test]
async fn a_topic_of_somebody_else_is_refused_with_the_commands_that_mend_it() {
    let options = shared_options().await;
    let settings =
        [("retention.ms", "3600000"), ("cleanup.policy", "compact"), ("unclean.leader.election.enable", "true")];
    create_foreign(&options, &settings).await;
    let report = KafkaLog::check_topic(&options).await.unwrap();
    assert!(!report.is_fit());
    let refused: Vec<_> = report.findings.iter().filter(|finding| finding.severity == Severity::Refuse).collect();
    let found: Vec<_> = refused.iter().map(|finding| (finding.setting.as_str(), finding.found.as_str())).collect();
    let want = [("message.timestamp.type", "CreateTime"), ("cleanup.policy", "compact"), ("retention.ms", "3600000")];
    assert_eq!(found, want);
    for finding in refused {
        let command = format!(
            "--bootstrap-server {} --alter --entity-type topics --entity-name {}",
            options.brokers, options.topic
        );
        assert!(finding.mend.contains(&command), "{}", finding.mend);
    }
    let unfit = KafkaLog::create_topic(&options, &spec(2)).await.unwrap_err();
    let TopicError::Unfit(inside) = &unfit else { panic!("{unfit}") };
    assert_eq!(**inside, report);
    assert!(unfit.to_string().contains("message.timestamp.type=LogAppendTime"), "{unfit}");
}

#[tokio::test]
async fn times_of_clients_are_not_taken_for_append_times() {
    let options = shared_options().await;
    create_foreign(&options, &[("message.timestamp.type", "CreateTime")]).await;
    let log = KafkaLog::connect(options).await.unwrap();
    let refused = log.append(Target::Partition(0), record("v")).await.unwrap_err();
    assert!(matches!(&refused, LogError::Failed(why) if why.contains("LogAppendTime")), "{refused}");
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    let refused = reader.poll(1, LONG).await.unwrap_err();
    assert!(matches!(&refused, LogError::Failed(why) if why.contains("LogAppendTime")), "{refused}");
}

/// As in production: three brokers. Two of them are lost, one after the other.
#[tokio::test]
async fn a_record_that_too_few_brokers_have_is_not_acknowledged() {
    let three = services::KafkaOptions { brokers: 3, shifted_clock: false };
    let mut kafka = services::Kafka::start(three).await.unwrap();
    let mut options = options(&kafka.brokers());
    let topic = KafkaLog::create_topic(&options, &TopicSpec { partitions: 3, ..TopicSpec::default() }).await.unwrap();
    let report = KafkaLog::check_topic(&options).await.unwrap();
    let want = TopicReport { topic, replication_factor: 3, brokers: 3, findings: Vec::new() };
    assert_eq!(report, want, "what we create is what we want");

    options.request_timeout = Duration::from_secs(2);
    let log = KafkaLog::connect(options).await.unwrap();
    let append = |partition| log.append(Target::Partition(partition), record("v"));
    for partition in 0..3 {
        append(partition).await.unwrap();
    }
    kafka.kill(1).unwrap();
    let began = std::time::Instant::now();
    for partition in 0..3 {
        // Until the partitions of the dead broker have another leader.
        while let Err(error) = append(partition).await {
            assert!(matches!(error, LogError::Unavailable(_)), "{error}");
            assert!(began.elapsed() < LONG, "two of three brokers take no record: {error}");
        }
    }
    kafka.kill(2).unwrap();
    let began = std::time::Instant::now();
    let refused = append(0).await.unwrap_err();
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(6), "bounded by the request timeout, not {:?}", began.elapsed());
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_unavailable_and_says_why() {
    let port = services::free_port().unwrap();
    let mut options = options(&format!("127.0.0.1:{port}"));
    options.request_timeout = Duration::from_secs(1);
    let error = KafkaLog::connect(options.clone()).await.unwrap_err();
    assert!(matches!(&error, LogError::Unavailable(why) if why.contains("Connection refused")), "{error}");
    let error = KafkaLog::create_topic(&options, &spec(1)).await.unwrap_err();
    assert!(matches!(error, TopicError::Log(LogError::Unavailable(_))), "{error}");
}

#[tokio::test]
async fn an_outage_is_an_error_of_appends_and_a_pause_of_readers() {
    let mut kafka = services::Kafka::start(services::KafkaOptions::default()).await.unwrap();
    let mut options = options(&kafka.brokers());
    options.request_timeout = Duration::from_secs(2);
    KafkaLog::create_topic(&options, &spec(1)).await.unwrap();
    let log = KafkaLog::connect(options).await.unwrap();
    log.append(Target::Partition(0), record("before")).await.unwrap();
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    assert_eq!(reader.poll(9, LONG).await.unwrap().len(), 1);

    kafka.kill(1).unwrap();
    let refused = log.append(Target::Partition(0), record("during")).await.unwrap_err();
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
    let refused = log.bounds(0).await.unwrap_err();
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
    assert_eq!(reader.poll(9, Duration::from_secs(1)).await.unwrap(), [], "a reader waits for the broker");

    kafka.restart(1).await.unwrap();
    let appended = loop {
        match log.append(Target::Partition(0), record("after")).await {
            Ok(appended) => break appended,
            Err(error) => assert!(matches!(error, LogError::Unavailable(_)), "{error}"),
        }
    };
    let mut next = Offset::new(1);
    while next <= appended.offset {
        let records = reader.poll(9, LONG).await.unwrap();
        assert!(!records.is_empty(), "the reader does not come back");
        for record in records {
            assert_eq!(record.offset, next);
            next = next.next();
        }
    }
}

#[tokio::test]
async fn holes_of_transactions_are_not_skipped_in_silence() {
    use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
    let options = shared_options().await;
    KafkaLog::create_topic(&options, &spec(1)).await.unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers).set("transactional.id", &options.topic);
    let topic = options.topic.clone();
    let transaction = move || {
        let producer: ThreadedProducer<_> =
            config.create::<ThreadedProducer<rdkafka::producer::DefaultProducerContext>>()?;
        producer.init_transactions(LONG)?;
        producer.begin_transaction()?;
        producer.send(BaseRecord::<(), str>::to(&topic).payload("v").partition(0)).map_err(|(error, _)| error)?;
        producer.commit_transaction(LONG)
    };
    tokio::task::spawn_blocking(transaction).await.unwrap().unwrap();
    let log = KafkaLog::connect(options).await.unwrap();
    // Offset 1 is the commit marker, which no reader gets. The broker writes it after it has acknowledged the commit.
    while log.bounds(0).await.unwrap().end < Offset::new(2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(log.append(Target::Partition(0), record("v")).await.unwrap().offset, Offset::new(2));
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    let mut read = Vec::new();
    let error = loop {
        match reader.poll(9, LONG).await {
            Ok(records) => read.extend(records.into_iter().map(|record| record.offset.value())),
            Err(error) => break error,
        }
    };
    assert_eq!(read, [0]);
    assert!(matches!(&error, LogError::Failed(why) if why.contains("where 1 was next")), "{error}");
}

#[tokio::test]
async fn readers_are_cheap_to_drop() {
    let options = shared_options().await;
    KafkaLog::create_topic(&options, &spec(1)).await.unwrap();
    let log = KafkaLog::connect(options).await.unwrap();
    let mut readers = join_all((0..16).map(|_| log.open(0, Offset::ZERO))).await;
    for reader in &mut readers {
        assert_eq!(reader.as_mut().unwrap().poll(1, Duration::from_millis(1)).await.unwrap(), []);
    }
    let began = std::time::Instant::now();
    drop(readers);
    assert!(began.elapsed() < Duration::from_millis(500), "dropping waited for {:?}", began.elapsed());
}

/// rdkafka's own reading of headers panics at this one.
#[tokio::test]
async fn a_header_name_that_is_no_text_is_read_all_the_same() {
    let options = shared_options().await;
    KafkaLog::create_topic(&options, &spec(1)).await.unwrap();
    let log = KafkaLog::connect(options.clone()).await.unwrap();
    tokio::task::spawn_blocking(move || produce_with_header_name(&options, b"\xff\xfename")).await.unwrap();
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    let records = reader.poll(9, LONG).await.unwrap();
    let headers: Vec<_> = records[0].headers.iter().map(|h| (h.name.as_str(), h.value.as_deref().unwrap())).collect();
    assert_eq!(headers, [("\u{fffd}\u{fffd}name", b"value".as_slice())]);
}

/// rdkafka cannot write such a name, so librdkafka does.
#[allow(unsafe_code)]
fn produce_with_header_name(options: &KafkaOptions, name: &[u8]) {
    use rdkafka::bindings as native;
    use rdkafka::producer::{BaseProducer, Producer};
    use rdkafka::types::RDKafkaRespErr;
    use std::ffi::{CString, c_char};
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let (topic, value) = (CString::new(options.topic.as_str()).unwrap(), b"value");
    // SAFETY: the topic handle is made from a live client and destroyed after the last use; name and value are copied;
    // the record has no payload, no key and no opaque, and on success the headers belong to librdkafka.
    unsafe {
        let handle = native::rd_kafka_topic_new(producer.client().native_ptr(), topic.as_ptr(), std::ptr::null_mut());
        let headers = native::rd_kafka_headers_new(1);
        let (name_at, value_at) = (name.as_ptr().cast::<c_char>(), value.as_ptr().cast());
        let added = native::rd_kafka_header_add(headers, name_at, name.len() as isize, value_at, value.len() as isize);
        assert_eq!(added, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
        let end = native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END;
        let sent = native::rd_kafka_producev(
            producer.client().native_ptr(),
            native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
            handle,
            native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
            0i32,
            native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
            headers,
            end,
        );
        assert_eq!(sent, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
        producer.flush(LONG).unwrap();
        native::rd_kafka_topic_destroy(handle);
    }
}
