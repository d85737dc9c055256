//! An answer with a row for each instance of its alert, by the query contract. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlsentinel_common::outcome::{ErrorKind, InstanceVerdict, MAX_INSTANCES, RunStatus, Verdict, instance_name};

use super::judge_row;
use crate::answer::{Answer, CUT_MARK, MAX_BYTES, Row};

/// Judges each row by itself. One row that breaks the contract breaks it for all: nothing would be known of an instance
/// that is left out.
pub(super) fn judge(answer: Answer, key: &[String]) -> Verdict {
    let Answer { rows, more, too_large, truncated, .. } = answer;
    if too_large {
        let message = format!(
            "the query returned more than {} MiB: return fewer columns, shorter values, or only the rows that are wrong",
            MAX_BYTES / (1024 * 1024)
        );
        return Verdict::error(ErrorKind::Limit, message);
    }
    if more || rows.len() > MAX_INSTANCES {
        let message = format!(
            "the query returned more than {MAX_INSTANCES} rows, and each is an instance: return only those that are wrong, \
             or aggregate"
        );
        return Verdict::error(ErrorKind::Limit, message);
    }
    let mut status = if rows.is_empty() { RunStatus::NoData } else { RunStatus::Ok };
    let mut first_rows = BTreeMap::new();
    let mut instances = Vec::with_capacity(rows.len());
    for (number, row) in (1..).zip(rows) {
        let name = match name_of(&row, key) {
            Ok(name) => name,
            Err(message) => return Verdict::error(ErrorKind::Contract, message),
        };
        if let Some(first) = first_rows.insert(name.clone(), number) {
            let message = format!(
                "rows {first} and {number} are both about the instance `{name}`: aggregate, or add the columns that tell \
                 them apart to `instance_key`"
            );
            return Verdict::error(ErrorKind::Contract, message);
        }
        let truncated = truncated && is_cut(&row);
        let judged = judge_row(row);
        if let Some(error) = judged.error {
            let message = format!("row {number} (instance `{name}`): {}", error.message);
            return Verdict::error(ErrorKind::Contract, message);
        }
        if judged.status == RunStatus::Alert {
            status = RunStatus::Alert;
        }
        instances.push(InstanceVerdict::new(name, Verdict { truncated, ..judged }));
    }
    Verdict { instances, truncated, ..Verdict::bare(status) }
}

/// Column names are read in any case, as those of the contract are.
fn name_of(row: &Row, key: &[String]) -> Result<String, String> {
    let mut columns = Vec::with_capacity(key.len());
    for wanted in key {
        let mut found = row.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => columns.push((wanted.as_str(), value)),
            (Some(_), Some(_)) => return Err(format!("the query returned two columns called `{wanted}`")),
            (None, _) => {
                return Err(format!(
                    "there is no column `{wanted}`, which `instance_key` names: add it to the query, or name one that is \
                     there"
                ));
            }
        }
    }
    Ok(instance_name(&columns))
}

fn is_cut(row: &Row) -> bool {
    row.iter().any(|(_, value)| matches!(value, Value::String(text) if text.ends_with(CUT_MARK)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sqlsentinel_common::messages::MAX_OUTCOME_BYTES;

    use super::super::{ENVELOPE_BYTES, judge};
    use super::*;

    fn row(columns: &[(&str, Value)]) -> Row {
        columns.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn answer(rows: &[&[(&str, Value)]]) -> Answer {
        Answer { rows: rows.iter().map(|columns| row(columns)).collect(), ..Answer::default() }
    }

    fn key(columns: &[&str]) -> Vec<String> {
        columns.iter().map(|column| (*column).to_owned()).collect()
    }

    #[test]
    fn each_row_is_judged_by_itself_and_one_alert_is_the_answers() {
        let (eu, us) = (("region", json!("eu")), ("region", json!("us")));
        let rows: [&[(&str, Value)]; 2] = [
            &[eu, ("status", json!("ok")), ("actual_value", json!(1))],
            &[us, ("Status", json!(" Alert ")), ("actual_value", json!(2)), ("threshold", json!(1)), ("n", json!(3))],
        ];
        let said = judge(answer(&rows), &key(&["REGION"]));
        assert_eq!((said.status, said.actual_value, said.threshold), (RunStatus::Alert, None, None));
        assert!(said.context.is_empty() && said.error.is_none() && !said.truncated);
        let shown = serde_json::to_value(&said.instances).unwrap();
        assert_eq!(
            shown,
            json!([
                {"instance": "eu", "status": "OK", "actual_value": 1, "context": {"region": "eu"}},
                {"instance": "us", "status": "ALERT", "actual_value": 2, "threshold": 1,
                 "context": {"region": "us", "n": 3}},
            ])
        );
        let well = judge(answer(&rows[..1]), &key(&["region"]));
        assert_eq!((well.status, well.instances.len()), (RunStatus::Ok, 1));
        assert_eq!(judge(Answer::default(), &key(&["region"])), Verdict::bare(RunStatus::NoData));
    }

    #[test]
    fn null_is_an_instance_of_its_own() {
        let of = |value: Value| [("region", value), ("status", json!("OK"))];
        let rows = [of(Value::Null), of(json!("")), of(json!("NULL"))];
        let said = judge(answer(&rows.each_ref().map(|row| row.as_slice())), &key(&["region"]));
        let names: Vec<_> = said.instances.iter().map(|row| row.instance.as_str()).collect();
        assert_eq!(names, ["NULL", "\"\"", "\"NULL\""]);
    }

    #[test]
    fn what_breaks_the_contract_of_instances_is_an_error_that_says_what_to_do() {
        type Rows<'a> = &'a [&'a [(&'a str, Value)]];
        let good: &[(&str, Value)] = &[("region", json!("eu")), ("shop", json!(1)), ("status", json!("OK"))];
        let cases: [(Rows, &[&str], &str); 5] = [
            (&[good, good], &["region", "shop"], "rows 1 and 2 are both about the instance `region=eu,shop=1`"),
            (&[good], &["region", "city"], "there is no column `city`, which `instance_key` names"),
            (
                &[good, &[("region", json!("us")), ("status", json!("WARN"))]],
                &["region"],
                "row 2 (instance `us`): `status` is \"WARN\"",
            ),
            (&[&[("region", json!("us"))]], &["region"], "row 1 (instance `us`): there is no column `status`"),
            (
                &[&[("region", json!("us")), ("REGION", json!("eu")), ("status", json!("OK"))]],
                &["region"],
                "two columns called `region`",
            ),
        ];
        for (rows, columns, said) in cases {
            let verdict = judge(answer(rows), &key(columns));
            let error = verdict.error.unwrap_or_else(|| panic!("{said}"));
            assert!(error.kind == ErrorKind::Contract && error.message.contains(said), "{said}: {error:?}");
            assert!(verdict.instances.is_empty(), "{said}");
        }
    }

    #[test]
    fn more_rows_than_there_may_be_instances_are_over_the_limit() {
        let rows = |count: usize| (0..count).map(|n| row(&[("n", json!(n)), ("status", json!("OK"))])).collect();
        let all = judge(Answer { rows: rows(MAX_INSTANCES), ..Answer::default() }, &key(&["n"]));
        assert_eq!((all.status, all.instances.len()), (RunStatus::Ok, MAX_INSTANCES));
        let over = judge(Answer { rows: rows(MAX_INSTANCES), more: true, ..Answer::default() }, &key(&["n"]));
        let error = over.error.unwrap();
        assert!(error.kind == ErrorKind::Limit && error.message.contains("more than 1000 rows"), "{error:?}");
        let large = judge(Answer { rows: rows(10), more: true, too_large: true, ..Answer::default() }, &key(&["n"]));
        let error = large.error.unwrap();
        assert!(error.kind == ErrorKind::Limit && error.message.contains("more than 16 MiB"), "{error:?}");
    }

    #[test]
    fn only_the_row_that_was_cut_is_marked() {
        let rows: [&[(&str, Value)]; 2] = [
            &[("n", json!(1)), ("status", json!("OK")), ("note", json!(format!("abc{CUT_MARK}")))],
            &[("n", json!(2)), ("status", json!("OK")), ("note", json!("abc"))],
        ];
        let said = judge(Answer { truncated: true, ..answer(&rows) }, &key(&["n"]));
        assert_eq!((said.truncated, said.instances[0].truncated, said.instances[1].truncated), (true, true, false));
    }

    #[test]
    fn every_instance_fits_into_the_outcome_with_its_name_and_status_however_long_all_else_is() {
        let long = |n: usize, unit: &str| json!(format!("{n}{}", unit.repeat(2_000 / unit.len())));
        for unit in ["x", "\u{1}", "\"", "漢"] {
            let rows = (0..MAX_INSTANCES).map(|n| {
                let status = if n % 100 == 0 { "ALERT" } else { "OK" };
                let mut columns = vec![("n", long(n, unit)), ("status", json!(status))];
                columns.extend([("actual_value", long(n, unit)), ("threshold", long(n, unit)), ("note", json!(n))]);
                row(&columns)
            });
            let said = judge(Answer { rows: rows.collect(), ..Answer::default() }, &key(&["n"]));
            let bytes = json!(said).to_string().len();
            assert!(bytes <= MAX_OUTCOME_BYTES - ENVELOPE_BYTES, "{bytes}");
            assert_eq!((said.status, said.truncated, said.instances.len()), (RunStatus::Alert, true, MAX_INSTANCES));
            let alerts = said.instances.iter().filter(|row| row.status == RunStatus::Alert).count();
            assert_eq!(alerts, 10, "{unit:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_cut_last() {
        let rows = (0..500).map(|n| {
            let status = if n == 7 { "ALERT" } else { "OK" };
            row(&[("n", json!(n)), ("status", json!(status)), ("note", json!("x".repeat(1_000)))])
        });
        let mut rows: Vec<Row> = rows.collect();
        for (n, row) in rows.iter_mut().enumerate() {
            // Names alone are too long: cutting values does not help.
            row.extend((0..20).map(|column| (format!("{}{n}_{column}", "c".repeat(30)), json!(1))));
        }
        let said = judge(Answer { rows, ..Answer::default() }, &key(&["n"]));
        assert!(json!(said).to_string().len() <= MAX_OUTCOME_BYTES - ENVELOPE_BYTES);
        let alert = said.instances.iter().find(|row| row.status == RunStatus::Alert).unwrap();
        assert_eq!((alert.instance.as_str(), alert.context.len()), ("7", 22));
        assert!(said.instances.iter().filter(|row| row.status == RunStatus::Ok).all(|row| row.context.is_empty()));
    }
}
