//! The same tables as views of DuckDB, for whoever reads the store without this program.

const VIEWS: &str = include_str!("views.sql");
/// Without a version of the ads table there is no file that this view could read.
const ADS: &str = include_str!("ads_view.sql");

/// Statements that make the views over a store. `root` is the store as DuckDB knows it: a folder, or `s3://bucket/prefix`.
pub fn views(root: &str, has_ads: bool) -> String {
    // Within a text of SQL.
    let root = root.replace('\'', "''");
    let views = VIEWS.replace("{root}", &root);
    if has_ads { views + &ADS.replace("{root}", &root) } else { views }
}
