
-- Whose an ad is, its name and price, from valid_from until before valid_to: the newest version of the table.
CREATE OR REPLACE VIEW ads AS
WITH newest AS (
    SELECT '{root}/' || arg_max("rows"."key", number) AS file
    FROM read_json('{root}/ads/v1/*.json', columns = {number: 'BIGINT', "rows": 'STRUCT("key" VARCHAR)'}))
SELECT ad_id, tenant, campaign, name, price, currency, valid_from,
    lead(valid_from) OVER (PARTITION BY ad_id ORDER BY valid_from) AS valid_to
FROM read_csv('{root}/ads/v1/rows/*.csv', header = true, filename = true, columns = {
    ad_id: 'VARCHAR', tenant: 'VARCHAR', campaign: 'VARCHAR', name: 'VARCHAR', price: 'DECIMAL(38, 6)', currency: 'VARCHAR',
    valid_from: 'DATE'}) AS stored
SEMI JOIN newest ON stored.filename = newest.file;
