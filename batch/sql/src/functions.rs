//! Functions of these tables, and those of the engine that would mislead or harm.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::datatypes::DataType;
use clicks::id::ClickId;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::datetime::to_char;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, create_udf,
};
use datafusion::prelude::SessionContext;

const ID_BYTES: i32 = 16;

/// The id of a click as it is written.
pub(crate) fn uuid_text() -> ScalarUDF {
    let texts = |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let ids = arrays.first().and_then(|ids| ids.as_fixed_size_binary_opt());
        let ids = ids.ok_or_else(|| DataFusionError::Internal("ids of clicks are 16 bytes".to_owned()))?;
        let mut texts = StringBuilder::new();
        for row in 0..ids.len() {
            let bytes: Option<[u8; 16]> = (!ids.is_null(row)).then(|| ids.value(row).try_into().ok()).flatten();
            texts.append_option(bytes.map(|bytes| ClickId::from_bytes(bytes).to_string()));
        }
        Ok(ColumnarValue::Array(Arc::new(texts.finish())))
    };
    let bytes = DataType::FixedSizeBinary(ID_BYTES);
    create_udf("uuid_text", vec![bytes], DataType::Utf8, Volatility::Immutable, Arc::new(texts))
}

/// Functions that make of a small question one large value, which no limit sees. As tables `range` and `generate_series` stay:
/// there they are rows.
const TOO_LARGE: [&str; 9] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
];

pub(crate) fn register(session: &SessionContext) {
    TOO_LARGE.iter().for_each(|name| session.deregister_udf(name));
    session.register_udf(ScalarUDF::from(ToChar(to_char())));
}

/// The engine's `to_char`, which takes the codes of `strftime`. It gives those of PostgreSQL back as they are: a report by
/// the month `YYYY-MM`. Here they are refused.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar(Arc<ScalarUDF>);

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(format)))) = args.args.get(1)
            && !format.contains('%')
        {
            return exec_err!(
                "to_char takes the codes of strftime here, and `{format}` has none: write %Y-%m-%d %H:%M:%S for YYYY-MM-DD HH24:MI:SS"
            );
        }
        self.0.invoke_with_args(args)
    }
}
