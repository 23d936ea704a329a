// Renders templates as Ollama does: reads a JSON list of {text, values, date}, writes the list of the rendered texts.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role, Content, Thinking string
	ToolCalls               []string
}

type job struct {
	Text, Date string
	Values     struct {
		System, ThinkLevel string
		Think, IsThinkSet  bool
		Messages           []*message
		Tools              []string
	}
}

func main() {
	var jobs []job
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		panic(err)
	}
	texts := []string{}
	for _, each := range jobs {
		functions := template.FuncMap{"currentDate": func(...string) string { return each.Date }}
		parsed, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(each.Text)
		if err != nil {
			panic(err)
		}
		var written strings.Builder
		values := map[string]any{
			"System": each.Values.System, "Messages": each.Values.Messages, "Tools": each.Values.Tools, "Response": "",
			"Think": each.Values.Think, "ThinkLevel": each.Values.ThinkLevel, "IsThinkSet": each.Values.IsThinkSet,
		}
		if err := parsed.Execute(&written, values); err != nil {
			texts = append(texts, "refused: "+err.Error())
			continue
		}
		texts = append(texts, written.String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(texts); err != nil {
		panic(err)
	}
}
