//! Where the two dialects differ, in one place: expressions and clauses that statements are put together from.

/// Which SQL the state database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl Dialect {
    /// Picks the text for this dialect.
    pub(crate) fn pick<T>(self, postgres: T, sqlite: T) -> T {
        match self {
            Self::Postgres => postgres,
            Self::Sqlite => sqlite,
        }
    }

    /// Microseconds since the Unix epoch on the database's clock, as an expression.
    pub(crate) fn now(self) -> &'static str {
        self.pick(
            "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
            "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        )
    }

    /// The same moment as the Python system's time columns hold it.
    pub(crate) fn now_as_datetime(self) -> &'static str {
        self.pick("timezone('UTC', clock_timestamp())", "strftime('%Y-%m-%d %H:%M:%f000', 'now')")
    }

    /// `$1`, a JSON array of objects, as a table `n` with these columns (`name TYPE, …` in PostgreSQL's types).
    pub(crate) fn rows(self, columns: &str) -> String {
        match self {
            Self::Postgres => format!("jsonb_to_recordset($1::jsonb) AS n({columns})"),
            Self::Sqlite => {
                let names = columns.split(", ").filter_map(|column| column.split(' ').next());
                let fields: Vec<String> =
                    names.map(|name| format!("json_extract(value, '$.{name}') AS {name}")).collect();
                format!("(SELECT {} FROM json_each($1)) AS n", fields.join(", "))
            }
        }
    }

    /// Locks the selected rows of `table`; SQLite's transaction holds the only write lock already.
    pub(crate) fn lock(self, table: &str) -> String {
        self.pick(format!(" FOR UPDATE OF {table}"), String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_json_rows_names_its_columns_in_both_dialects() {
        let columns = "id TEXT, width DOUBLE PRECISION";
        assert_eq!(
            Dialect::Postgres.rows(columns),
            "jsonb_to_recordset($1::jsonb) AS n(id TEXT, width DOUBLE PRECISION)"
        );
        assert_eq!(
            Dialect::Sqlite.rows(columns),
            "(SELECT json_extract(value, '$.id') AS id, json_extract(value, '$.width') AS width \
             FROM json_each($1)) AS n"
        );
    }
}
