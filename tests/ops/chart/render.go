// Renders the chart's templates as helm does, with Go's own templates and sprig, for machines without helm:
//
//	render CHART VALUES.yaml
//
// GO111MODULE=off GOPATH=/usr/share/gocode go run tests/ops/chart/render.go …, with Debian's packages golang-go,
// golang-github-masterminds-sprig-dev and golang-gopkg-yaml.v3-dev. What helm adds is left out: hooks, lookups, subcharts.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

type table = map[string]interface{}

func read(path string) table {
	text, err := os.ReadFile(path)
	fail(err)
	found := table{}
	fail(yaml.Unmarshal(text, &found))
	return found
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// merge lays what the user said over the chart's own values, as helm does.
func merge(under, over table) table {
	for name, value := range over {
		below, was := under[name].(table)
		above, is := value.(table)
		if was && is {
			under[name] = merge(below, above)
		} else {
			under[name] = value
		}
	}
	return under
}

func functions(all *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	delete(known, "env")
	delete(known, "expandenv")
	known["include"] = func(name string, data interface{}) (string, error) {
		var out strings.Builder
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	known["required"] = func(words string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", words)
		}
		return value, nil
	}
	known["toYaml"] = func(value interface{}) (string, error) {
		out, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(out), "\n"), err
	}
	return known
}

func main() {
	chart := os.Args[1]
	values := read(filepath.Join(chart, "values.yaml"))
	if len(os.Args) > 2 {
		values = merge(values, read(os.Args[2]))
	}
	about := read(filepath.Join(chart, "Chart.yaml"))
	data := table{
		"Values":  values,
		"Release": table{"Name": "test", "Namespace": "fleet", "Service": "Helm", "IsInstall": true},
		"Chart":   table{"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]},
	}
	all := template.New("chart").Option("missingkey=zero")
	all.Funcs(functions(all))
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	fail(err)
	sort.Strings(files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		fail(err)
		_, err = all.New(filepath.Base(file)).Parse(string(text))
		fail(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var out strings.Builder
		fail(all.ExecuteTemplate(&out, name, data))
		text := strings.ReplaceAll(out.String(), "<no value>", "")
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		if strings.TrimSpace(text) != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, strings.Trim(text, "\n"))
		}
	}
}
