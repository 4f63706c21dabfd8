// Prometheus's answers -> Grafana's data frames, dressed with the panel's own field config.
// Names, units, thresholds and overrides come from the committed dashboard: nothing is decided here.
import {
  FieldType, createTheme, dateTime, getDisplayProcessor, standardTransformers, standardTransformersRegistry,
  toDataFrame, transformDataFrame,
} from '@grafana/data';
import { firstValueFrom } from 'rxjs';

export const theme = createTheme({ colors: { mode: 'dark' } });
export const timeZone = 'utc';

const USED = [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer];
standardTransformersRegistry.setInit(() => USED.map((one) => ({ id: one.id, name: one.name, transformation: () => Promise.resolve(one), editor: () => null })));

export const rangeOf = (told) => {
  const [from, to] = [dateTime(told.from * 1000), dateTime(told.to * 1000)];
  return { from, to, raw: { from, to } };
};

const number = (text) => ({ '+Inf': Infinity, '-Inf': -Infinity, NaN: NaN })[text] ?? Number(text);

const legend = (answer, labels) => {
  if (answer.legend !== '__auto') return answer.legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');
  const told = Object.entries(labels).map(([name, value]) => `${name}="${value}"`).join(', ');
  return told ? `{${told}}` : 'Value';
};

function dressed(field, fieldConfig, place = 0) {
  field.state = { ...field.state, seriesIndex: place };
  const config = structuredClone({ color: { mode: 'palette-classic' }, ...fieldConfig.defaults, ...field.config });
  const names = [field.config.displayNameFromDS, field.name].filter(Boolean);
  for (const { matcher, properties } of fieldConfig.overrides ?? []) {
    const hit = matcher.id === 'byName' ? names.includes(matcher.options) : names.some((n) => new RegExp(matcher.options.replace(/^\/|\/$/g, '')).test(n));
    if (!hit) continue;
    for (const { id, value } of properties) {
      if (id.startsWith('custom.')) config.custom = { ...config.custom, [id.slice(7)]: value };
      else config[id] = value;
    }
  }
  field.config = config;
  field.display = getDisplayProcessor({ field, theme, timeZone });
  return field;
}

// A range query: a field of numbers for each series, on one grid of instants, gaps where Prometheus had none.
export function series(panel, told) {
  let place = 0;
  return told.flatMap((answer) =>
    answer.result.map((one) => {
      const times = one.values.map(([at]) => at * 1000);
      const values = one.values.map(([, value]) => number(value));
      const frame = toDataFrame({
        refId: answer.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: [...times], config: { interval: answer.step * 1000 } },
          { name: 'Value', type: FieldType.number, values: [...values], labels: one.metric, config: { displayNameFromDS: legend(answer, one.metric) } },
        ],
      });
      frame.fields[1].state = { displayName: legend(answer, one.metric) };
      frame.fields[0].display = getDisplayProcessor({ field: frame.fields[0], theme, timeZone });
      dressed(frame.fields[1], panel.fieldConfig, place++);
      return frame;
    }),
  );
}

// An instant query: one value for each series, as stat and bar gauge want them.
export const instants = (panel, told) =>
  series(panel, told.map((answer) => ({ ...answer, result: answer.result.map((one) => ({ metric: one.metric, values: one.value ? [one.value] : one.values })) })));

// Instant queries as one table: labels are columns; then the dashboard's own transformations, by Grafana's own code.
export async function tabled(panel, told) {
  const frames = told.map((answer) => {
    const labels = [...new Set(answer.result.flatMap((one) => Object.keys(one.metric)))].sort();
    return toDataFrame({
      refId: answer.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: answer.result.map((one) => one.value[0] * 1000) },
        ...labels.map((name) => ({ name, type: FieldType.string, values: answer.result.map((one) => one.metric[name] ?? '') })),
        { name: told.length > 1 ? `Value #${answer.refId}` : 'Value', type: FieldType.number, values: answer.result.map((one) => number(one.value[1])) },
      ],
    });
  });
  const steps = (panel.transformations ?? []).map(({ id, options }) => ({ id, options }));
  const [frame] = await firstValueFrom(transformDataFrame(steps, frames));
  if (!frame) return null;
  for (const field of frame.fields) {
    if (field.config.displayName) field.name = field.config.displayName;
    dressed(field, panel.fieldConfig);
    field.state = null;
  }
  return frame;
}
