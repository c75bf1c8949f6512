import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/** Does what BI tools do: finds out what there is, and asks. Prints a line per question: its name, a tab, the answer. */
final class Ask {
    public static void main(String[] arguments) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", "bi");
        properties.setProperty("password", arguments[1]);
        // A savepoint before each question, and back to it after an error.
        properties.setProperty("autosave", "always");
        try (Connection connection = DriverManager.getConnection(arguments[0], properties)) {
            DatabaseMetaData about = connection.getMetaData();
            tell("tables", column(about.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME"));
            tell("columns", column(about.getColumns(null, "public", "clicks_day", "%"), "COLUMN_NAME"));
            tell("types", column(about.getColumns(null, "public", "clicks_day", "%"), "TYPE_NAME"));
            tell("schemas", column(about.getSchemas(), "TABLE_SCHEM"));
            tell("primary keys", column(about.getPrimaryKeys(null, "public", "clicks_day"), "COLUMN_NAME"));
            tell("indexes", column(about.getIndexInfo(null, "public", "clicks_day", false, true), "INDEX_NAME"));
            tell("foreign keys", column(about.getImportedKeys(null, "public", "clicks_day"), "FKCOLUMN_NAME"));
            tell("keys to it", column(about.getExportedKeys(null, "public", "ads"), "FKCOLUMN_NAME"));
            tell("type names", column(about.getTypeInfo(), "TYPE_NAME").stream().filter("int8"::equals).toList());
            tell("functions", column(about.getFunctions(null, "public", "%"), "FUNCTION_NAME"));
            String sql = "SELECT sum(total) AS billed FROM clicks_day WHERE day = ? AND ad_id <> ?";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                List<String> days = new ArrayList<>();
                // Often enough for the driver to prepare it on the server and to take binary values.
                for (int day = 1; day <= 6; day++) {
                    statement.setDate(1, Date.valueOf("2026-03-0" + day));
                    statement.setString(2, "nobody");
                    days.addAll(column(statement.executeQuery(), "billed"));
                }
                tell("by day", days);
            }
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(100);
                tell("in parts", List.of(String.valueOf(column(statement.executeQuery("SELECT * FROM clicks_hour"), "ad_id").size())));
            }
            connection.rollback();
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("DELETE FROM clicks_day");
                tell("delete", List.of("done"));
            } catch (SQLException refused) {
                tell("delete", List.of(refused.getSQLState()));
            }
            try (Statement statement = connection.createStatement()) {
                tell("after it", column(statement.executeQuery("SELECT count(*) AS hours FROM clicks_hour"), "hours"));
            }
            connection.rollback();
        }
    }

    private static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) {
            values.add(rows.getString(name));
        }
        return values;
    }

    private static void tell(String name, List<String> values) {
        System.out.println(name + "\t" + String.join(",", values));
    }
}
