//! Groups on real Kafka, beyond the conformance suite: what only brokers can get wrong.

use std::time::{Duration, Instant};

use clicks::id::Region;
use platform::log::{Assignment, KafkaLog, KafkaOptions, Log, LogError, Membership, NewRecord, Target, TopicSpec};
use promises::services;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

const LONG: Duration = Duration::from_secs(60);
const GROUP: &str = "group";

async fn log(brokers: &str, partitions: u32, client: &[(&str, &str)]) -> KafkaLog {
    let topic = format!("group-{}", uuid::Uuid::new_v4());
    let mut options = KafkaOptions::new(brokers, &topic, Region::parse("eu").unwrap());
    KafkaLog::create_topic(&options, &spec(partitions)).await.unwrap();
    options.client = client.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    options.request_timeout = Duration::from_secs(5);
    KafkaLog::connect(options).await.unwrap()
}

fn spec(partitions: u32) -> TopicSpec {
    TopicSpec { partitions, replication_factor: 1, ..TopicSpec::default() }
}

/// Waits until the member owns this many.
async fn own(member: &mut dyn Membership, count: usize) {
    let began = Instant::now();
    let mut last = Assignment::new();
    loop {
        let left = LONG.saturating_sub(began.elapsed());
        let next = tokio::time::timeout(left, member.next()).await;
        last = next.unwrap_or_else(|_| panic!("{last:?} instead of {count}")).unwrap();
        if last.len() == count {
            return;
        }
    }
}

/// Waits until two members share three partitions, the one two of them and the other one. Which has more is up to the
/// group: where a broker's restart took longer than a session, both join anew.
async fn share_three(members: [&mut dyn Membership; 2]) {
    let began = Instant::now();
    let [a, b] = members;
    let (mut of_a, mut of_b) = (None, None);
    while !matches!((of_a, of_b), (Some(1), Some(2)) | (Some(2), Some(1))) {
        let left = LONG.saturating_sub(began.elapsed());
        let next = async {
            tokio::select! {
                next = a.next() => of_a = Some(next.unwrap().len()),
                next = b.next() => of_b = Some(next.unwrap().len()),
            }
        };
        tokio::time::timeout(left, next).await.unwrap_or_else(|_| panic!("three are not shared"));
    }
}

async fn refused(member: &mut dyn Membership) -> LogError {
    tokio::time::timeout(LONG, member.next()).await.expect("it is refused").expect_err("it is refused")
}

/// Away for longer than a session: the partitions are given up, because others may have them, and come back.
#[tokio::test]
async fn an_outage_takes_the_partitions_and_gives_them_back() {
    let mut kafka = services::Kafka::start(services::KafkaOptions::default()).await.unwrap();
    let log = log(&kafka.brokers(), 3, &[("session.timeout.ms", "6000")]).await;
    let mut member = log.join(GROUP).await.unwrap();
    own(&mut *member, 3).await;
    kafka.kill(1).unwrap();
    own(&mut *member, 0).await;
    kafka.restart(1).await.unwrap();
    own(&mut *member, 3).await;
    // And shorter than a session, which nobody need notice.
    kafka.kill(1).unwrap();
    kafka.restart(1).await.unwrap();
    let mut second = log.join(GROUP).await.unwrap();
    share_three([&mut *second, &mut *member]).await;
    // Leaving does not hang on brokers that are away.
    kafka.kill(1).unwrap();
    tokio::time::timeout(LONG, second.leave()).await.unwrap();
}

/// Whoever stores what it reads finds out by the topic's id; the group goes on.
#[tokio::test]
async fn a_topic_that_is_created_again_is_no_failure_of_the_group() {
    let log = log(&services::shared().await.unwrap().kafka.brokers(), 2, &[]).await;
    let mut member = log.join(GROUP).await.unwrap();
    own(&mut *member, 2).await;
    let (options, before) = (log.options(), log.topic().await.unwrap());
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let patient = AdminOptions::new().operation_timeout(Some(LONG));
    for deleted in admin.delete_topics(&[&options.topic], &patient).await.unwrap() {
        deleted.unwrap();
    }
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < LONG, "the broker does not forget the old topic");
        match KafkaLog::create_topic(options, &spec(4)).await {
            Ok(topic) if topic.id != before.id => break,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    own(&mut *member, 4).await;
}

#[tokio::test]
async fn a_session_that_brokers_do_not_allow_is_named() {
    let log = log(&services::shared().await.unwrap().kafka.brokers(), 1, &[("session.timeout.ms", "500")]).await;
    let mut member = log.join(GROUP).await.unwrap();
    let error = refused(&mut *member).await;
    assert!(matches!(&error, LogError::Setting { name, .. } if name == "session.timeout.ms"), "{error}");
    assert!(error.to_string().contains("group.min.session.timeout.ms"), "{error}");
}

#[tokio::test]
async fn a_group_of_another_program_is_named() {
    let log = log(&services::shared().await.unwrap().kafka.brokers(), 1, &[]).await;
    let options = log.options().clone();
    let (joined, is_in) = tokio::sync::oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let other = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &options.brokers).set("group.id", format!("{GROUP}.{}", options.topic));
        let consumer: BaseConsumer = config.set("partition.assignment.strategy", "range").create().unwrap();
        consumer.subscribe(&[&options.topic]).unwrap();
        let mut joined = Some(joined);
        while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            consumer.poll(Duration::from_millis(50));
            if consumer.assignment().unwrap().count() == 1
                && let Some(joined) = joined.take()
            {
                joined.send(()).unwrap();
            }
        }
    });
    tokio::time::timeout(LONG, is_in).await.expect("the other program is in").unwrap();
    let mut member = log.join(GROUP).await.unwrap();
    let error = refused(&mut *member).await;
    assert!(matches!(&error, LogError::Setting { name, .. } if name == "speed.group"), "{error}");
    drop(end);
    other.await.unwrap();
}

/// A process whose async threads stand still sends heartbeats all the same; it leaves, and takes part again later.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stands_still_loses_its_partitions_until_it_goes_on() {
    let limits = [("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")];
    let log = std::sync::Arc::new(log(&services::shared().await.unwrap().kafka.brokers(), 2, &limits).await);
    let (frozen, is_frozen) = tokio::sync::oneshot::channel();
    let (thaw, thawed) = std::sync::mpsc::channel::<()>();
    let its_log = log.clone();
    let stands_still = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut member = its_log.join(GROUP).await.unwrap();
            own(&mut *member, 2).await;
            frozen.send(()).unwrap();
            thawed.recv_timeout(LONG).unwrap();
            own(&mut *member, 0).await;
            own(&mut *member, 1).await;
            member.leave().await;
        });
    });
    is_frozen.await.unwrap();
    let mut other = log.join(GROUP).await.unwrap();
    own(&mut *other, 2).await;
    thaw.send(()).unwrap();
    own(&mut *other, 1).await;
    own(&mut *other, 2).await;
    stands_still.join().unwrap();
}

#[tokio::test]
async fn members_fetch_no_records() {
    // Of all members of this process; none may.
    platform::telemetry::metrics();
    let log = log(&services::shared().await.unwrap().kafka.brokers(), 2, &[]).await;
    let mut member = log.join(GROUP).await.unwrap();
    own(&mut *member, 2).await;
    let append =
        |n: u32| log.append(Target::Partition(n % 2), NewRecord { value: Some("v".into()), ..Default::default() });
    let mut other = None;
    for round in 0..4 {
        for appended in futures::future::join_all((0..250).map(append)).await {
            appended.unwrap();
        }
        match round {
            1 => {
                let mut joins = log.join(GROUP).await.unwrap();
                own(&mut *joins, 1).await;
                other = Some(joins);
            }
            2 => drop(other.take()),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    own(&mut *member, 2).await;
    let text = platform::telemetry::render();
    assert!(text.contains("twofold_log_group_records_total 0\n"), "{text}");
}
