package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strings"

	"github.com/ovh/go-ovh/ovh"
)

// The forms in which the Terraform provider sends and reads IAM: a list that is not set goes out as null, a text that is
// not set does not go out.

type action struct {
	Action string `json:"action"`
}

type permissions struct {
	Allow  []action `json:"allow"`
	Except []action `json:"except"`
	Deny   []action `json:"deny"`
}

type resource struct {
	ID          string            `json:"id,omitempty"`
	URN         string            `json:"urn,omitempty"`
	Name        string            `json:"name,omitempty"`
	DisplayName string            `json:"displayName,omitempty"`
	Owner       string            `json:"owner,omitempty"`
	Type        string            `json:"type,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
}

type resourceGroup struct {
	ID        string     `json:"id,omitempty"`
	Name      string     `json:"name"`
	Resources []resource `json:"resources"`
	URN       string     `json:"urn,omitempty"`
	Owner     string     `json:"owner,omitempty"`
	CreatedAt string     `json:"createdAt,omitempty"`
	UpdatedAt string     `json:"updatedAt,omitempty"`
	ReadOnly  bool       `json:"readOnly,omitempty"`
}

type permissionsGroup struct {
	ID          string      `json:"id,omitempty"`
	Name        string      `json:"name"`
	Description string      `json:"description,omitempty"`
	Permissions permissions `json:"permissions"`
	CreatedAt   string      `json:"createdAt,omitempty"`
	UpdatedAt   string      `json:"updatedAt,omitempty"`
	URN         string      `json:"urn,omitempty"`
	Owner       string      `json:"owner,omitempty"`
}

type named struct {
	URN      string         `json:"urn,omitempty"`
	Group    *resourceGroup `json:"group,omitempty"`
	Resource *resource      `json:"resource,omitempty"`
}

type condition struct {
	Operator   string            `json:"operator"`
	Values     map[string]string `json:"values,omitempty"`
	Conditions []*condition      `json:"conditions,omitempty"`
}

type policy struct {
	ID                string      `json:"id,omitempty"`
	Name              string      `json:"name"`
	Description       string      `json:"description,omitempty"`
	Identities        []string    `json:"identities"`
	Resources         []named     `json:"resources"`
	Permissions       permissions `json:"permissions"`
	PermissionsGroups []groupName `json:"permissionsGroups"`
	Conditions        *condition  `json:"conditions,omitempty"`
	CreatedAt         string      `json:"createdAt,omitempty"`
	UpdatedAt         string      `json:"updatedAt,omitempty"`
	ExpiredAt         string      `json:"expiredAt,omitempty"`
	ReadOnly          bool        `json:"readOnly,omitempty"`
	Owner             string      `json:"owner,omitempty"`
}

type groupName struct {
	URN string `json:"urn"`
}

// iam makes, reads, changes and removes each kind of thing in the order in which Terraform does, and compares what it reads
// with what it wrote. It leaves one policy, and prints its id.
func iam(client *ovh.Client) {
	var me struct {
		Nichandle string `json:"nichandle"`
	}
	check(client.Get("/me", &me))
	alice := "urn:v1:eu:identity:user:" + me.Nichandle + "/alice"
	project := "urn:v1:eu:resource:publicCloudProject:" + os.Getenv("PROJECT")

	// Data sources first: the reference lists.
	var types []string
	check(client.Get("/v2/iam/reference/resource/type", &types))
	must(strings.Contains(strings.Join(types, " "), "publicCloudProject"), types)
	var known []struct {
		Action       string   `json:"action"`
		Categories   []string `json:"categories"`
		Description  string   `json:"description"`
		ResourceType string   `json:"resourceType"`
	}
	check(client.Get("/v2/iam/reference/action?resourceType=publicCloudProject", &known))
	must(len(known) > 20 && known[0].ResourceType == "publicCloudProject" && len(known[0].Categories) > 0, known)

	// A resource group.
	group := resourceGroup{Name: "terraform-group", Resources: []resource{{URN: project}, {URN: "urn:v1:eu:resource:vps:*"}}}
	var made, read resourceGroup
	check(client.Post("/v2/iam/resourceGroup", group, &made))
	groupPath := "/v2/iam/resourceGroup/" + url.PathEscape(made.ID)
	check(client.Get(groupPath+"?details=true", &read))
	must(read.Name == group.Name && read.URN == made.URN && read.Owner == me.Nichandle && !read.ReadOnly, read)
	must(len(read.Resources) == 2 && read.Resources[0].URN == project && read.Resources[1].URN == "urn:v1:eu:resource:vps:*", read)
	group.Resources = group.Resources[:1]
	check(client.Put(groupPath, &group, nil))
	check(client.Get(groupPath+"?details=true", &read))
	must(len(read.Resources) == 1 && read.UpdatedAt != "" && read.CreatedAt == made.CreatedAt, read)

	// A permissions group, by its URN.
	rights := permissionsGroup{Name: "terraform-rights", Description: "what it is", Permissions: permissions{Allow: []action{{"publicCloudProject:apiovh:*"}}, Except: []action{{"publicCloudProject:apiovh:dataProcessing/*"}}}}
	var answered, again permissionsGroup
	check(client.Post("/v2/iam/permissionsGroup", rights, &answered))
	rightsPath := "/v2/iam/permissionsGroup/" + url.PathEscape(answered.URN)
	check(client.Get(rightsPath, &again))
	must(reflect.DeepEqual(answered, again) && reflect.DeepEqual(again.Permissions, rights.Permissions), answered, again)
	rights.Permissions.Deny = []action{{"publicCloudProject:apiovh:region/storage/delete"}}
	check(client.Put(rightsPath, rights, &answered))
	check(client.Get(rightsPath, &again))
	must(reflect.DeepEqual(answered, again) && reflect.DeepEqual(again.Permissions, rights.Permissions), answered, again)

	// A policy over both, with conditions and an end.
	wanted := policy{
		Name:              "terraform-policy",
		Description:       "IAM policy",
		Identities:        []string{alice},
		Resources:         []named{{URN: made.URN}, {URN: project}},
		Permissions:       permissions{Allow: []action{{"publicCloudProject:apiovh:dataProcessing/jobs/*"}, {"publicCloudProject:apiovh:get"}}},
		PermissionsGroups: []groupName{{answered.URN}},
		Conditions: &condition{Operator: "AND", Conditions: []*condition{
			{Operator: "OR", Conditions: []*condition{
				{Operator: "MATCH", Values: map[string]string{"resource.Tag(environment)": "production", "request.IP": "192.72.0.1"}},
				{Operator: "MATCH", Values: map[string]string{"date(Europe/Paris).WeekDay.In": "monday,tuesday,wednesday,thursday,friday,saturday,sunday"}},
			}},
			{Operator: "NOT", Conditions: []*condition{{Operator: "MATCH", Values: map[string]string{"date(UTC).WeekDay": "monday", "request.IP": "192.72.0.2"}}}},
		}},
		ExpiredAt: "2099-12-31T23:59:59Z",
	}
	var first, second policy
	check(client.Post("/v2/iam/policy", wanted, &first))
	policyPath := "/v2/iam/policy/" + url.PathEscape(first.ID)
	check(client.Get(policyPath, &second))
	must(reflect.DeepEqual(first, second), first, second)
	same(first, wanted)
	must(first.Resources[0].Group != nil && first.Resources[1].Resource != nil, first)
	wanted.Permissions = permissions{Allow: []action{{"*"}}, Except: []action{{"publicCloudProject:apiovh:user/delete"}}}
	wanted.Conditions, wanted.ExpiredAt, wanted.PermissionsGroups, wanted.Description = nil, "", nil, ""
	check(client.Put(policyPath, wanted, &first))
	second = policy{}
	check(client.Get(policyPath, &second))
	must(reflect.DeepEqual(first.Permissions, second.Permissions), first, second)
	same(second, wanted)
	must(second.Conditions == nil && second.ExpiredAt == "" && second.PermissionsGroups == nil && second.Description == "", second)
	var listed []policy
	check(client.Get("/v2/iam/policy", &listed))
	must(len(listed) == 1 && listed[0].ID == first.ID, listed)
	refused(409, "Client::Conflict", client.Delete(groupPath, nil))
	fault := refused(400, "Client::BadRequest", client.Post("/v2/iam/policy", policy{Name: "x", Permissions: permissions{Allow: []action{{"no:such:action"}}}}, nil))
	must(fault.Details["permissions.allow[0].action"] != "", fault.Details)

	// Tags of a resource.
	resourcePath := "/v2/iam/resource/" + url.PathEscape(project)
	var shown resource
	for _, tags := range []map[string]string{{"environment": "production", "team": "a/b"}, {"environment": "test"}, {}} {
		check(client.Put(resourcePath, map[string]any{"tags": tags}, nil))
		shown = resource{}
		check(client.Get(resourcePath, &shown))
		must(len(shown.Tags) == len(tags) && (len(tags) == 0 || reflect.DeepEqual(shown.Tags, tags)), shown, tags)
	}
	must(shown.URN == project && shown.Type == "publicCloudProject" && shown.Owner == me.Nichandle, shown)

	// And all of it goes; the policy is made once more, to be looked at.
	check(client.Delete(policyPath, nil))
	refused(404, "Client::NotFound", client.Get(policyPath, nil))
	check(client.Delete(rightsPath, nil))
	check(client.Delete(groupPath, nil))
	refused(404, "Client::NotFound", client.Get(rightsPath, nil))
	wanted.Resources = []named{{URN: project}}
	check(client.Post("/v2/iam/policy", wanted, &first))
	printed, err := json.Marshal(map[string]string{"policy": first.ID, "account": me.Nichandle})
	check(err)
	fmt.Println("the Go SDK managed policies")
	fmt.Println(string(printed))
}

// same holds where a policy that was read says what was written.
func same(read, wrote policy) {
	var urns, sent []string
	for _, one := range read.Resources {
		urns = append(urns, one.URN)
	}
	for _, one := range wrote.Resources {
		sent = append(sent, one.URN)
	}
	must(read.Name == wrote.Name && reflect.DeepEqual(read.Identities, wrote.Identities) && reflect.DeepEqual(urns, sent), read)
	must(reflect.DeepEqual(read.Permissions, wrote.Permissions) && read.ExpiredAt == wrote.ExpiredAt, read)
	must(reflect.DeepEqual(read.Conditions, wrote.Conditions) && reflect.DeepEqual(read.PermissionsGroups, wrote.PermissionsGroups), read)
}
