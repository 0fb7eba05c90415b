package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"voicefleet/bench/internal/chart"
)

// Usage is what a load took.
type Usage struct {
	Users         float64 // who were in calls
	Cores         float64 // CPU of the server, in seconds per second
	BitsPerSecond float64 // out to the users
}

// Prices is what computing costs somewhere.
type Prices struct {
	Name         string
	Currency     string
	CoreHour     float64 // for a core and an hour
	GigabyteOut  float64 // for 1e9 bytes out
	PlannedShare float64 // of a core or a line that is planned for, 0 to 1
	TalkingShare float64 // of a month in which people talk, 0 to 1
	Machines     []MachinePrice
}

// MachinePrice is a machine hired whole.
type MachinePrice struct {
	Name              string
	Month             float64 // price of a month
	Cores             float64
	MbitPerSecond     float64 // of its line
	GigabytesIncluded float64 // out, in a month; more costs GigabyteOut
}

// hoursPerMonth is a twelfth of a year of 365 days.
const hoursPerMonth = 730

// maxPrices bounds a price file.
const maxPrices = 64 << 10

//go:embed prices.yaml
var examplePrices []byte

// ExamplePrices are invented prices that show what the table looks like.
func ExamplePrices() Prices {
	p, err := parsePrices("prices.yaml", examplePrices)
	if err != nil {
		panic(err) // the file is ours, and a test reads it
	}
	return p
}

// ExamplePriceFile is the file of the invented prices, to be copied and filled in.
func ExamplePriceFile() []byte { return append([]byte(nil), examplePrices...) }

// LoadPrices reads a price file; without a name it gives ExamplePrices.
func LoadPrices(name string) (Prices, error) {
	if name == "" {
		return ExamplePrices(), nil
	}
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return Prices{}, fmt.Errorf("read prices: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPrices+1))
	if err != nil {
		return Prices{}, fmt.Errorf("read prices: %w", err)
	}
	if len(data) > maxPrices {
		return Prices{}, fmt.Errorf("read prices: %s has more than %d KiB; is it a price file?", name, maxPrices>>10)
	}
	p, err := parsePrices(name, data)
	if err != nil {
		return Prices{}, fmt.Errorf("read prices: %w", err)
	}
	return p, nil
}

// priceFile reads fields and remembers where they stood.
type priceFile struct{ name string }

// wrong is an error at a place of the file.
func (f priceFile) wrong(n ast.Node, field, format string, args ...any) error {
	at := 1
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		at = n.GetToken().Position.Line
	}
	return fmt.Errorf("%s, line %d: %s: %s", f.name, at, field, fmt.Sprintf(format, args...))
}

func parsePrices(name string, data []byte) (Prices, error) {
	f := priceFile{name}
	// Without a share told, all of a core and of a month counts.
	p := Prices{PlannedShare: 1, TalkingShare: 1}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var where yaml.Error
		if errors.As(err, &where) && where.GetToken() != nil && where.GetToken().Position != nil {
			return p, fmt.Errorf("%s, line %d: %s", name, where.GetToken().Position.Line, where.GetMessage())
		}
		return p, fmt.Errorf("%s: %w", name, err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return p, fmt.Errorf("%s, line 1: want one list of fields, as currency: EUR", name)
	}
	seen, err := f.fields(file.Docs[0].Body, "the file", map[string]any{
		"name": &p.Name, "currency": &p.Currency, "core_hour": &p.CoreHour, "gigabyte_out": &p.GigabyteOut,
		"planned_share": &p.PlannedShare, "talking_share": &p.TalkingShare,
		"machines": func(n ast.Node) error { return f.machines(n, &p.Machines) },
	})
	if err != nil {
		return p, err
	}
	for _, share := range []struct {
		field string
		v     float64
	}{{"planned_share", p.PlannedShare}, {"talking_share", p.TalkingShare}} {
		if share.v <= 0 || share.v > 1 {
			return p, f.wrong(seen[share.field], share.field, "%v is no share; want more than 0, at most 1", share.v)
		}
	}
	if p.Currency == "" {
		return p, f.wrong(seen["currency"], "currency", "is missing; want the name of a currency, as EUR")
	}
	if seen["core_hour"] == nil && len(p.Machines) == 0 {
		return p, fmt.Errorf("%s, line 1: core_hour and machines are both missing; want at least one of them", name)
	}
	return p, nil
}

func (f priceFile) machines(n ast.Node, to *[]MachinePrice) error {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return f.wrong(n, "machines", "want a list of machines, each beginning with a dash")
	}
	if len(list.Values) > 20 {
		return f.wrong(n, "machines", "%d are too many; want at most 20", len(list.Values))
	}
	for i, v := range list.Values {
		var m MachinePrice
		path := fmt.Sprintf("machines[%d]", i)
		seen, err := f.fields(v, path, map[string]any{
			"name": &m.Name, "month": &m.Month, "cores": &m.Cores, "mbit_per_second": &m.MbitPerSecond, "gigabytes_included": &m.GigabytesIncluded,
		})
		if err != nil {
			return err
		}
		for _, must := range []struct {
			field string
			ok    bool
		}{{"name", m.Name != ""}, {"month", seen["month"] != nil}, {"cores", m.Cores > 0}, {"mbit_per_second", m.MbitPerSecond > 0}} {
			if !must.ok {
				at := seen[must.field]
				if at == nil {
					at = v
				}
				return f.wrong(at, path+"."+must.field, "is missing or 0; every machine needs name, month, cores and mbit_per_second")
			}
		}
		*to = append(*to, m)
	}
	return nil
}

// fields reads a mapping into strings, numbers, and what functions read.
func (f priceFile) fields(n ast.Node, path string, to map[string]any) (map[string]ast.Node, error) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		return nil, f.wrong(n, path, "want fields, as currency: EUR")
	}
	seen := make(map[string]ast.Node)
	for _, v := range m.Values {
		key := v.Key.GetToken().Value
		if seen[key] != nil {
			return nil, f.wrong(v.Key, key, "stands twice")
		}
		seen[key] = v.Value
		if seen[key] == nil {
			seen[key] = v.Key
		}
		switch to := to[key].(type) {
		case *string:
			text := v.Value.GetToken().Value
			if _, scalar := v.Value.(ast.ScalarNode); !scalar || strings.TrimSpace(text) == "" || len(text) > 80 {
				return nil, f.wrong(v.Key, key, "want a text of at most 80 bytes")
			}
			*to = text
		case *float64:
			text := v.Value.GetToken().Value
			x, err := strconv.ParseFloat(text, 64)
			if err != nil || math.IsNaN(x) || x < 0 || x > 1e9 {
				return nil, f.wrong(v.Key, key, "%q is no price or amount; want a number from 0 to 1,000,000,000", text)
			}
			*to = x
		case func(ast.Node) error:
			if err := to(v.Value); err != nil {
				return nil, err
			}
		default:
			return nil, f.wrong(v.Key, key, "no such field; see the example prices for those there are")
		}
	}
	return seen, nil
}

// CostTable is what the same load costs for 1,000 users, in CPU, in bits per second
// and, at these prices, in money for a month. Without users it says that there is
// nothing to reckon with.
func CostTable(u Usage, p Prices) Table {
	t := Table{Title: "What 1,000 users cost", Head: []string{"", "per 1,000 users"}}
	if !(u.Users > 0) || !(u.Cores >= 0) || !(u.BitsPerSecond >= 0) || math.IsInf(u.Users+u.Cores+u.BitsPerSecond, 0) {
		t.Rows = [][]string{{"void", "no users were measured"}}
		return t
	}
	scale := 1000 / u.Users
	cores, mbit := u.Cores*scale, u.BitsPerSecond*scale/1e6
	t.Rows = [][]string{
		{"CPU", fmt.Sprintf("%.2f cores", cores)},
		{"out", fmt.Sprintf("%.1f Mbit/s", mbit)},
	}
	if p.Currency == "" {
		return t
	}
	t.Title += fmt.Sprintf(" (%s)", p.Name)
	planned, talking := share(p.PlannedShare), share(p.TalkingShare)
	gigabytes := mbit * 1e6 / 8 * hoursPerMonth * 3600 / 1e9 * talking
	t.Rows = append(t.Rows, []string{"out in a month", chart.Value(gigabytes, "GB")})
	money := func(v float64) string { return fmt.Sprintf("%.2f %s", v, p.Currency) }
	row := func(name string, v float64) { t.Rows = append(t.Rows, []string{name, money(v)}) }
	if p.CoreHour > 0 {
		cpu, out := cores/planned*p.CoreHour*hoursPerMonth, gigabytes*p.GigabyteOut
		row(fmt.Sprintf("CPU in a month, at %g %s for a core and an hour", p.CoreHour, p.Currency), cpu)
		row(fmt.Sprintf("out in a month, at %g %s for a GB", p.GigabyteOut, p.Currency), out)
		row("both in a month", cpu+out)
	}
	for _, m := range p.Machines {
		// In parts of machines: whole ones are bought for all users together.
		n := max(cores/planned/m.Cores, mbit/planned/m.MbitPerSecond)
		extra := max(0, gigabytes-n*m.GigabytesIncluded) * p.GigabyteOut
		row(fmt.Sprintf("%.2f of a %s in a month", n, m.Name), n*m.Month+extra)
	}
	t.Values = map[string]float64{"cores": cores, "mbit_per_second": mbit, "gigabytes_per_month": gigabytes}
	return t
}

// share reads no share as all.
func share(v float64) float64 {
	if v <= 0 || v > 1 {
		return 1
	}
	return v
}
