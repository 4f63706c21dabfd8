// One dashboard, drawn on its own grid with Grafana's components. A preview: Grafana itself is not here, so what its panel
// plugins add around these components (menus, tooltips, the exact heatmap) is not shown.
import { ThemeContext, getFieldDisplayValues, standardFieldConfigEditorRegistry } from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import 'uplot/dist/uPlot.min.css';
import { Heatmap } from './heatmap';
import { instants, rangeOf, series, tabled, theme, timeZone } from './frames';

const { dashboard, answers, note } = window.preview;
const timeRange = rangeOf(answers);
const [COLUMNS, ROW, GAP] = [24, 30, 8];
const column = (window.innerWidth - 16 + GAP) / COLUMNS;

const reduced = (panel, told) =>
  getFieldDisplayValues({
    data: instants(panel, told), fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text, theme, timeZone,
  });

const DRAW = {
  timeseries: ({ panel, told, width, height }) => (
    <TimeSeries frames={series(panel, told)} structureRev={1} timeRange={timeRange} timeZone={timeZone} legend={panel.options.legend} options={panel.options} width={width} height={height} />
  ),
  stat: ({ panel, told, width, height }) => {
    const values = reduced(panel, told);
    return (
      <VizRepeater
        source={values} width={width} height={height} orientation={panel.options.orientation} itemSpacing={3} autoGrid={values.length > 6}
        getValues={() => values} renderCounter={0}
        renderValue={({ value, width: w, height: h, count }) => (
          <BigValue value={value.display} count={count} colorMode={panel.options.colorMode} graphMode={panel.options.graphMode} justifyMode={panel.options.justifyMode} textMode={panel.options.textMode} sparkline={value.sparkline} theme={theme} width={w} height={h} />
        )}
      />
    );
  },
  bargauge: ({ panel, told, width, height }) => {
    const values = reduced(panel, told);
    return (
      <VizRepeater
        source={values} width={width} height={height} orientation="horizontal" itemSpacing={8} minVizHeight={panel.options.minVizHeight} maxVizHeight={panel.options.maxVizHeight} getValues={() => values} renderCounter={0}
        getAlignmentFactors={(all) => ({
          title: all.map((one) => one.display.title ?? '').reduce((a, b) => (b.length > a.length ? b : a), ''),
          text: all.map((one) => one.display.text).reduce((a, b) => (b.length > a.length ? b : a), ''),
        })}
        renderValue={({ value, width: w, height: h, alignmentFactors }) => (
          <BarGauge value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} alignmentFactors={alignmentFactors} orientation="horizontal" displayMode={panel.options.displayMode} valueDisplayMode={panel.options.valueMode} showUnfilled={panel.options.showUnfilled} text={panel.options.text} theme={theme} width={w} height={h} itemSpacing={8} lcdCellWidth={8} />
        )}
      />
    );
  },
  table: ({ panel, frame, width, height }) => <Table data={frame} width={width} height={height} initialSortBy={panel.options.sortBy} columnMinWidth={60} timeRange={timeRange} cellHeight="sm" />,
  heatmap: (props) => <Heatmap {...props} timeRange={timeRange} />,
};

function Panel({ panel, frame }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: 8 + x * column, top: 96 + y * (ROW + GAP) };
  const [width, height] = [w * column - GAP, h * (ROW + GAP) - GAP];
  if (panel.type === 'row') return <h2 style={{ ...place, fontSize: 16, margin: 0, lineHeight: '30px' }}>⌄ {panel.title}</h2>;
  const told = answers.answers.filter((one) => one.panel === panel.id);
  const Draw = DRAW[panel.type];
  return (
    <div style={{ ...place, width, height }} data-panel={panel.title}>
      <PanelChrome title={panel.title} width={width} height={height} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(w_, h_) => (told.some((one) => one.result.length) ? <Draw panel={panel} told={told} frame={frame} width={w_} height={h_} /> : <div data-empty>{panel.fieldConfig.defaults.noValue}</div>)}
      </PanelChrome>
    </div>
  );
}

const frames = new Map();
for (const panel of dashboard.panels.filter((one) => one.type === 'table')) {
  frames.set(panel.id, await tabled(panel, answers.answers.filter((one) => one.panel === panel.id)));
}
standardFieldConfigEditorRegistry.setInit(() => []);

createRoot(document.getElementById('page')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ padding: '10px 12px' }}>
      <h1 style={{ fontSize: 22, margin: 0 }}>{dashboard.title}</h1>
      <p style={{ margin: 0, opacity: 0.75 }}>{dashboard.description}</p>
      <p style={{ margin: 0, opacity: 0.75, fontSize: 12 }}>{note}</p>
    </div>
    {dashboard.panels.map((panel) => <Panel key={panel.id} panel={panel} frame={frames.get(panel.id)} />)}
  </ThemeContext.Provider>,
);
