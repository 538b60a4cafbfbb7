// The official Go SDK, unmodified, with an endpoint of its own.
//
//	jobs          submit, poll, read logs, cancel, errors
//	iam           policies and their groups, in the order in which Terraform makes the calls
//	spark-submit  the conversation of ovh-spark-submit, call by call; its exit code is the job's return code
package main

import (
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/ovh/go-ovh/ovh"
)

// What the old clients read of a job: texts everywhere, so that a null must do no harm.
type job struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	StartDate  string `json:"startDate"`
	EndDate    string `json:"endDate"`
	TTL        string `json:"ttl"`
	Status     string `json:"status"`
	ReturnCode int64  `json:"returnCode"`
}

type line struct {
	Content string `json:"content"`
	ID      uint64 `json:"id"`
}

type logs struct {
	Logs        []line `json:"logs"`
	LogsAddress string `json:"logsAddress"`
	StartDate   string `json:"startDate"`
}

type parameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type submit struct {
	ContainerName    string      `json:"containerName"`
	Engine           string      `json:"engine"`
	Name             string      `json:"name"`
	Region           string      `json:"region"`
	TTL              string      `json:"ttl,omitempty"`
	EngineVersion    string      `json:"engineVersion"`
	EngineParameters []parameter `json:"engineParameters"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("say what to do: iam, jobs or spark-submit")
	}
	client := connect(os.Getenv("APPLICATION_SECRET"))
	switch os.Args[1] {
	case "jobs":
		jobs(client)
	case "iam":
		iam(client)
	case "spark-submit":
		os.Exit(sparkSubmit(client, os.Args[2], os.Args[3:]))
	default:
		log.Fatalf("what is %q?", os.Args[1])
	}
}

func connect(secret string) *ovh.Client {
	client, err := ovh.NewClient(os.Getenv("ENDPOINT"), os.Getenv("APPLICATION_KEY"), secret, os.Getenv("CONSUMER_KEY"))
	check(err)
	return client
}

func jobs(client *ovh.Client) {
	check(client.Ping())
	var projects []string
	check(client.Get("/cloud/project", &projects))
	must(strings.Contains(strings.Join(projects, " "), os.Getenv("PROJECT")), projects)

	var submitted job
	check(client.Post(path(), request("5, 0.2, 0", nil), &submitted))
	var ids []string
	check(client.Get(path(), &ids))
	must(strings.Contains(strings.Join(ids, " "), submitted.ID), ids)
	done := wait(client, submitted.ID, "COMPLETED", "FAILED", "TERMINATED")
	must(done.Status == "COMPLETED" && done.ReturnCode == 0, done)
	var read logs
	check(client.Get(path()+"/"+submitted.ID+"/logs", &read))
	must(read.LogsAddress != "" && read.StartDate != "", read)
	next, last := 0, uint64(0)
	for _, line := range read.Logs {
		must(line.ID > last, "ids grow", line)
		last = line.ID
		if line.Content == fmt.Sprintf("line %d", next) {
			next++
		}
	}
	must(next == 5, read)

	var sleeper job
	check(client.Post(path(), request("1000, 1, 0", nil), &sleeper))
	wait(client, sleeper.ID, "RUNNING")
	check(client.Delete(path()+"/"+sleeper.ID, nil))
	done = wait(client, sleeper.ID, "COMPLETED", "FAILED", "TERMINATED")
	must(done.Status == "TERMINATED", done)

	refused(404, "", client.Get(path()+"/00000000-0000-7000-8000-000000000000", nil))
	fault := refused(422, "", client.Post(path(), request("", map[string]string{"driver_cores": "17"}), nil))
	must(strings.Contains(fault.Details["driver_cores"], "16"), fault.Details)
	refused(403, "Client::Forbidden", connect(strings.Repeat("x", 32)).Get("/me", nil))
	fmt.Println("the Go SDK did everything")
}

// sparkSubmit makes the calls of ovh-spark-submit, in its order and its words: `swift://container/path` for the main
// file, arguments joined by ", ", a status every two seconds, logs from a second without a time zone.
func sparkSubmit(client *ovh.Client, file string, arguments []string) int {
	parts := strings.Split(strings.Replace(file, "://", ":/", 1), "/")
	asked := request(strings.Join(arguments, ", "), map[string]string{"main_application_code": strings.Join(parts[2:], "/")})
	asked.ContainerName = parts[1]
	var current job
	if err := client.Post(path(), asked, &current); err != nil {
		fault, ok := err.(*ovh.APIError)
		must(ok, err)
		log.Fatalf("Unable to submit job: %s :: %s :: %v", err, fault.Class, fault.Details)
	}
	log.Printf("Job '%s' submitted with id %s", current.Name, current.ID)
	printed := uint64(0)
	read := func() logs {
		var answer logs
		from := time.Unix(0, int64(printed)).In(time.UTC).Format("2006-01-02T15:04:05") + ".000"
		check(client.Get(path()+"/"+current.ID+"/logs?from="+from, &answer))
		return answer
	}
	print := func(answer logs) {
		for _, line := range answer.Logs {
			if line.ID > printed {
				fmt.Println(line.Content)
				printed = line.ID
			}
		}
	}
	for running := true; running; {
		time.Sleep(2 * time.Second)
		check(client.Get(path()+"/"+current.ID, &current))
		switch current.Status {
		case "CANCELLING", "TERMINATED", "FAILED", "COMPLETED":
			running = false
		case "RUNNING":
			print(read())
		}
	}
	for {
		answer := read()
		// It prints nothing of an answer that has the address.
		if answer.LogsAddress != "" {
			log.Printf("You can download your logs at %s", answer.LogsAddress)
			break
		}
		if len(answer.Logs) == 0 {
			break
		}
		print(answer)
		time.Sleep(2 * time.Second)
	}
	log.Printf("Job status is : %s", current.Status)
	return int(current.ReturnCode)
}

func request(arguments string, changes map[string]string) submit {
	asked := submit{
		ContainerName: os.Getenv("BUCKET"),
		Engine:        "spark",
		Name:          "données du SDK",
		Region:        os.Getenv("REGION"),
		EngineVersion: os.Getenv("VERSION"),
	}
	for _, given := range []parameter{
		{"job_type", "python"},
		{"main_application_code", os.Getenv("MAIN")},
		{"driver_memory", "1024"},
		{"driver_memory_overhead", "384"},
		{"executor_memory", "1024"},
		{"executor_memory_overhead", "384"},
		{"executor_num", "1"},
		{"executor_cores", "1"},
		{"driver_cores", "1"},
		{"arguments", arguments},
	} {
		if value, changed := changes[given.Name]; changed {
			given.Value = value
		}
		asked.EngineParameters = append(asked.EngineParameters, given)
	}
	return asked
}

func wait(client *ovh.Client, id string, statuses ...string) job {
	var current job
	for tries := 0; tries < 360; tries++ {
		check(client.Get(path()+"/"+id, &current))
		for _, status := range statuses {
			if current.Status == status {
				return current
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	log.Fatalf("job %s is %s, not one of %v", id, current.Status, statuses)
	return current
}

func refused(code int, class string, err error) *ovh.APIError {
	fault, ok := err.(*ovh.APIError)
	must(ok && fault.Code == code && fault.QueryID != "" && strings.HasPrefix(fault.Class, class), err)
	return fault
}

func path() string {
	return "/cloud/project/" + os.Getenv("PROJECT") + "/dataProcessing/jobs"
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func must(holds bool, about ...any) {
	if !holds {
		log.Fatalf("does not hold: %+v", about)
	}
}
