-- The tables of `twofold sql` in DuckDB, over {root}.
-- Read this file once per session: duckdb -init views.sql
-- A store in S3 needs this first, and a secret with its keys: INSTALL httpfs; LOAD httpfs; CREATE SECRET (TYPE s3, …);
--
-- These views follow the newest entry of the ledger that the store lists. Counts come from the copies in tables/current, which
-- a night refreshes after its entry, or the next one if that was killed: until then they are those of the entry before. Raw
-- objects that were pruned are missing without a word. `twofold sql` reads what the ledger names, at any entry (--as-of).

CREATE OR REPLACE VIEW ledger AS
SELECT number AS entry, night, period, recount
FROM read_json('{root}/ledger/*.json', columns = {
    number: 'BIGINT',
    night: 'STRUCT(
        night DATE, published_at BIGINT, release VARCHAR,
        days STRUCT(day DATE, revision INTEGER, rules_version INTEGER,
            totals STRUCT(clicks BIGINT, late BIGINT, duplicates BIGINT, far_duplicates BIGINT))[],
        withheld STRUCT(objections STRUCT(detail VARCHAR)[]),
        accepted STRUCT(actor VARCHAR, reason VARCHAR),
        finals DATE[],
        adjustments STRUCT(clicks MAP(DATE, BIGINT)),
        inputs STRUCT("key" VARCHAR, "rows" BIGINT),
        balance STRUCT("rows" BIGINT, counted BIGINT, duplicates BIGINT, rejected BIGINT, control BIGINT, other_days BIGINT))',
    period: 'STRUCT(day DATE, action VARCHAR)',
    recount: 'STRUCT(
        day STRUCT(day DATE, revision INTEGER, rules_version INTEGER,
            totals STRUCT(clicks BIGINT, late BIGINT, duplicates BIGINT, far_duplicates BIGINT)),
        night DATE, published_at BIGINT, release VARCHAR,
        absorbs DATE[],
        accepted STRUCT(actor VARCHAR, reason VARCHAR),
        inputs STRUCT("key" VARCHAR, "rows" BIGINT),
        balance STRUCT("rows" BIGINT, counted BIGINT, duplicates BIGINT, rejected BIGINT, control BIGINT, other_days BIGINT))'
});

-- A row per day that a night has come to.
CREATE OR REPLACE VIEW periods AS
WITH revisions AS (
    -- Who accepts a night accepts its own day.
    SELECT entry, of_day, published, CASE WHEN of_day.day = own THEN accepted END AS accepted
    FROM (SELECT entry, unnest(night.days) AS of_day, night.published_at AS published, night.night AS own, night.accepted AS accepted
          FROM ledger WHERE night IS NOT NULL)
    UNION ALL
    SELECT entry, recount.day, recount.published_at, recount.accepted FROM ledger WHERE recount IS NOT NULL),
last AS (
    SELECT of_day.day AS day, max(entry) AS entry, arg_max(of_day, entry) AS revision, arg_max(published, entry) AS published,
        last(accepted.actor ORDER BY entry) FILTER (accepted IS NOT NULL) AS accepted_by,
        last(accepted.reason ORDER BY entry) FILTER (accepted IS NOT NULL) AS accepted_reason
    FROM revisions GROUP BY of_day.day),
finals AS (
    SELECT DISTINCT unnest(night.finals) AS day FROM ledger WHERE night IS NOT NULL
    UNION SELECT period.day FROM ledger WHERE period.action = 'approve'),
reopened AS (
    SELECT period.day AS day, max(entry) AS entry FROM ledger WHERE period.action = 'reopen' GROUP BY period.day),
held AS (
    SELECT period.day AS day, arg_max(period.action, entry) AS action FROM ledger
    WHERE period.action IN ('hold', 'approve') GROUP BY period.day),
found AS (
    SELECT night.night AS night, unnest(map_entries(night.adjustments.clicks)) AS of_day
    FROM ledger WHERE night.adjustments IS NOT NULL),
absorbed AS (SELECT recount.day.day AS day, unnest(recount.absorbs) AS night FROM ledger WHERE recount IS NOT NULL),
adjusted AS (
    SELECT of_day.key AS day, sum(of_day.value)::BIGINT AS clicks
    FROM found ANTI JOIN absorbed ON absorbed.day = of_day.key AND absorbed.night = found.night
    GROUP BY of_day.key),
withheld AS (
    SELECT night.night AS day, entry, night.published_at AS published,
        array_to_string(list_transform(night.withheld.objections, lambda o: o.detail), '; ') AS objections
    FROM ledger WHERE night.withheld IS NOT NULL)
SELECT day,
    CASE WHEN reopened.entry > last.entry THEN 'reopened'
         WHEN finals.day IS NULL THEN 'closed'
         WHEN adjusted.day IS NULL THEN 'final'
         ELSE 'adjusted' END AS state,
    revision.revision AS revision, revision.rules_version AS rules_version, revision.totals.clicks AS clicks,
    coalesce(adjusted.clicks, 0) AS adjustment, revision.totals.late AS late, revision.totals.duplicates AS duplicates,
    revision.totals.clicks + revision.totals.far_duplicates - revision.totals.late AS live_clicks,
    last.entry AS entry, make_timestamptz(published * 1000) AS published_at, coalesce(held.action = 'hold', false) AS held,
    accepted_by, accepted_reason, NULL::VARCHAR AS objections
FROM last LEFT JOIN finals USING (day) LEFT JOIN adjusted USING (day) LEFT JOIN reopened USING (day) LEFT JOIN held USING (day)
UNION ALL
SELECT day, 'withheld', NULL, NULL, NULL, 0, NULL, NULL, NULL, entry, make_timestamptz(published * 1000), false, NULL, NULL,
    objections
FROM withheld ANTI JOIN last USING (day);

-- Counts of closed days: total = clicks + adjustment is what is billed.
CREATE OR REPLACE VIEW clicks_minute AS
SELECT day, period_start, period_end, ad_id, class, counts.clicks, counts.adjustment, counts.clicks + counts.adjustment AS total,
    counts.duplicates, counts.late, coalesce(periods.state, 'adjusted') AS state, counts.revision, counts.rules_version
FROM read_parquet('{root}/tables/current/minute/day=*/data.parquet', hive_partitioning = true) AS counts LEFT JOIN periods USING (day);

CREATE OR REPLACE VIEW clicks_hour AS
SELECT day, period_start, period_end, ad_id, class, counts.clicks, counts.adjustment, counts.clicks + counts.adjustment AS total,
    counts.duplicates, counts.late, coalesce(periods.state, 'adjusted') AS state, counts.revision, counts.rules_version
FROM read_parquet('{root}/tables/current/hour/day=*/data.parquet', hive_partitioning = true) AS counts LEFT JOIN periods USING (day);

CREATE OR REPLACE VIEW clicks_day AS
SELECT day, period_start, period_end, ad_id, class, counts.clicks, counts.adjustment, counts.clicks + counts.adjustment AS total,
    counts.duplicates, counts.late, coalesce(periods.state, 'adjusted') AS state, counts.revision, counts.rules_version
FROM read_parquet('{root}/tables/current/day/day=*/data.parquet', hive_partitioning = true) AS counts LEFT JOIN periods USING (day);

-- Clicks that were found after their day was final. `twofold sql` also says by which night.
CREATE OR REPLACE VIEW adjustments AS
SELECT day, period_start, ad_id, class, adjustment AS clicks FROM clicks_minute WHERE adjustment <> 0;

-- A row per entry that has counted.
CREATE OR REPLACE VIEW quality AS
SELECT entry, coalesce(night.night, recount.night) AS night, night IS NULL AS recounted,
    coalesce(night.night, recount.day.day) AS day,
    make_timestamptz(coalesce(night.published_at, recount.published_at) * 1000) AS published_at,
    coalesce(night.release, recount.release) AS release,
    coalesce(night.inputs, recount.inputs)."rows" AS objects,
    balance."rows" AS records, balance.counted AS counted, balance.duplicates AS duplicates, balance.rejected AS rejected,
    balance.control AS control, balance.other_days AS other_days,
    coalesce(list_sum(map_values(night.adjustments.clicks)), 0)::BIGINT AS adjusted,
    array_to_string(list_transform(night.withheld.objections, lambda o: o.detail), '; ') AS objections,
    coalesce(night.accepted, recount.accepted).actor AS accepted_by, coalesce(night.accepted, recount.accepted).reason AS accepted_reason
FROM (SELECT *, coalesce(night.balance, recount.balance) AS balance FROM ledger WHERE night IS NOT NULL OR recount IS NOT NULL);

-- The records that were counted, from the objects that the ledger names, each as far as it was counted.
CREATE OR REPLACE VIEW raw_clicks AS
WITH named AS (
    SELECT '{root}/' || coalesce(night.inputs, recount.inputs)."key" AS list FROM ledger WHERE night IS NOT NULL OR recount IS NOT NULL),
listed AS (
    SELECT unnest(objects) AS object
    FROM read_json('{root}/tables/rev/*/inputs-*.json', filename = true,
        columns = {objects: 'STRUCT("key" VARCHAR, "from" BIGINT, "to" BIGINT)[]'}) AS lists
    SEMI JOIN named ON lists.filename = named.list),
counted AS (
    SELECT object."key" AS object, '{root}/' || object."key" AS file, min(object."from") AS first, max(object."to") AS until
    FROM listed GROUP BY object."key")
SELECT day AS append_day, region, topic AS topic_id, part AS partition, "offset",
    CASE kind WHEN 0 THEN 'click' WHEN 1 THEN 'control' WHEN 2 THEN 'unreadable' WHEN 3 THEN 'empty' ELSE 'unknown' END AS kind,
    event_time, append_time, received_time, broker_time,
    lower(CAST(CAST(nullif(hex(click_id), '') AS UUID) AS VARCHAR)) AS click_id,
    ad_id, user_id, user_agent, raw, object
FROM read_parquet('{root}/raw/v1/region=*/topic=*/part=*/day=*/*.parquet', hive_partitioning = true, filename = true) AS records
JOIN counted ON records.filename = counted.file
WHERE "offset" >= first AND "offset" < until;
