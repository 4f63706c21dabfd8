// A heatmap of histogram buckets on Grafana's UPlotChart. Grafana's own heatmap is not in its published packages, so the
// cells are drawn here; axes, formats and the chart around them are Grafana's.
import { formattedValueToString, getValueFormat } from '@grafana/data';
import { UPlotChart, UPlotConfigBuilder } from '@grafana/ui';
import { theme, timeZone } from './frames';

const VIRIDIS = ['#440154', '#46307e', '#365c8d', '#277f8e', '#1fa187', '#4ac16d', '#a0da39', '#fde725'];

function cellsOf([answer]) {
  const rows = answer.result.map((one) => [Number(one.metric.le.replace('+Inf', 'Infinity')), new Map(one.values.map(([at, value]) => [at, Number(value)]))]);
  rows.sort((a, b) => a[0] - b[0]);
  const times = [...new Set(rows.flatMap(([, values]) => [...values.keys()]))].sort((a, b) => a - b);
  const found = [];
  for (const at of times) {
    let below = 0; // buckets are cumulative
    rows.forEach(([, values], place) => {
      const until = values.get(at) ?? 0;
      if (until - below > 1e-9) found.push({ at: at * 1000, place, count: until - below });
      below = until;
    });
  }
  return { found, bounds: rows.map(([bound]) => bound), times: times.map((at) => at * 1000), step: answer.step * 1000 };
}

export function Heatmap({ panel, told, timeRange, width, height }) {
  const { found, bounds, times, step } = cellsOf(told);
  const most = Math.max(1, ...found.map((cell) => cell.count));
  const format = getValueFormat(panel.fieldConfig.defaults.unit);
  const colour = (count) => VIRIDIS[Math.min(VIRIDIS.length - 1, Math.floor((count / most) ** 0.5 * VIRIDIS.length))];
  const builder = new UPlotConfigBuilder(timeZone);
  builder.addScale({ scaleKey: 'x', isTime: true, orientation: 0, direction: 1, range: () => [timeRange.from.valueOf(), timeRange.to.valueOf()] });
  builder.addScale({ scaleKey: 'y', orientation: 1, direction: 1, range: () => [0, bounds.length] });
  builder.addAxis({ scaleKey: 'x', isTime: true, placement: 'bottom', timeZone, theme });
  builder.addAxis({
    scaleKey: 'y', placement: 'left', theme, splits: () => bounds.map((_, place) => place + 1).filter((place) => place % 2 === 1),
    formatValue: (place) => (bounds[place - 1] === Infinity ? '∞' : formattedValueToString(format(bounds[place - 1], 3)).replace(/(\.\d*?)0+(?=\D|$)/, '$1').replace(/\.(?=\D|$)/, '')),
    size: 60,
  });
  builder.addSeries({ scaleKey: 'y', show: true, theme, lineWidth: 0, pathBuilder: () => null, showPoints: 'never' });
  builder.addHook('draw', (u) => {
    for (const { at, place, count } of found) {
      if (at - step < timeRange.from.valueOf()) continue;
      const [left, right] = [u.valToPos(at - step, 'x', true), u.valToPos(at, 'x', true)];
      const [top, bottom] = [u.valToPos(place + 1, 'y', true), u.valToPos(place, 'y', true)];
      u.ctx.fillStyle = colour(count);
      u.ctx.fillRect(left + 1, top + 1, Math.max(1, right - left - 2), bottom - top - 2);
    }
  });
  const data = [times, times.map(() => 0)];
  return (
    <div>
      <UPlotChart config={builder} data={data} width={width} height={height - 22} />
      <div style={{ display: 'flex', gap: 4, alignItems: 'center', fontSize: 11, paddingLeft: 62 }}>
        0 {VIRIDIS.map((one) => <span key={one} style={{ width: 18, height: 10, background: one }} />)} {Math.round(most)} in a step
      </div>
    </div>
  );
}
