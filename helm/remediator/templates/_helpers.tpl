{{- define "remediator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "remediator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "remediator.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "remediator.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "remediator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "remediator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "remediator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "remediator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: remediator
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "remediator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "remediator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* An image's full name, of a mapping with registry, repository, tag and digest. */}}
{{- define "remediator.image" -}}
{{- $name := .image.repository }}
{{- with .image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end }}
{{- if .image.digest }}{{ printf "%s@%s" $name .image.digest }}{{ else }}{{ printf "%s:%s" $name (.image.tag | default .default) }}{{ end }}
{{- end }}

{{/* "postgresql" or "sqlite". */}}
{{- define "remediator.store" -}}
{{- if or .Values.store.url .Values.store.existingSecret }}postgresql{{ else }}sqlite{{ end }}
{{- end }}

{{- define "remediator.policiesDir" -}}
{{- if .Values.policies.gitSync.enabled -}}
{{- printf "/policies/current/%s" .Values.policies.gitSync.subPath | trimSuffix "/" }}
{{- else -}}
/etc/remediator/policies
{{- end }}
{{- end }}

{{- define "remediator.policiesConfigMap" -}}
{{- default (printf "%s-policies" (include "remediator.fullname" .)) .Values.policies.existingConfigMap }}
{{- end }}

{{/* What no value alone can show to be wrong. */}}
{{- define "remediator.check" -}}
{{- $sqlite := eq (include "remediator.store" .) "sqlite" }}
{{- if and $sqlite (gt (int .Values.replicaCount) 1) }}
{{- fail (printf "replicaCount is %d, but SQLite belongs to one process; set replicaCount: 1, or store.url: postgresql://…" (int .Values.replicaCount)) }}
{{- end }}
{{- if and $sqlite (not .Values.persistence.enabled) (not .Values.persistence.ephemeral) }}
{{- fail "the store would be lost with the pod; set persistence.enabled: true (a volume), store.url: postgresql://…, or, only to try it out, persistence.ephemeral: true" }}
{{- end }}
{{- if and .Values.store.url .Values.store.existingSecret }}
{{- fail "store.url and store.existingSecret are both given; give one of them" }}
{{- end }}
{{- range $section, $keys := dict "server" (list "port") "store" (list "url") "policies" (list "dir") }}
{{- range $keys }}
{{- if hasKey (default dict (get $.Values.settings $section)) . }}
{{- fail (printf "settings.%s.%s is written by the chart; see store, service and policies in values.yaml" $section .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if hasKey .Values.settings "secrets_dir" }}
{{- fail "settings.secrets_dir is written by the chart; name your Secret in existingSecret" }}
{{- end }}
{{- $tokens := dig "access" "tokens" list .Values.settings }}
{{- if not (or $tokens .Values.extraEnv .Values.extraEnvFrom) }}
{{- fail "settings.access.tokens is empty: the daemon refuses to listen beyond loopback without it; add {name: oncall, role: operator, token: \"${OPERATOR_TOKEN}\"} and existingSecret" }}
{{- end }}
{{- $policies := .Values.policies }}
{{- $sources := 0 }}
{{- range list $policies.files $policies.existingConfigMap $policies.gitSync.enabled }}
{{- if . }}{{ $sources = add1 $sources }}{{ end }}
{{- end }}
{{- if ne (int $sources) 1 }}
{{- fail (printf "policies: %d sources are given; give exactly one of policies.files, policies.existingConfigMap, policies.gitSync" (int $sources)) }}
{{- end }}
{{- if and $policies.gitSync.enabled (not $policies.gitSync.repo) }}
{{- fail "policies.gitSync.repo is empty; give the address of the repository" }}
{{- end }}
{{- end }}

{{/* remediator.yaml. */}}
{{- define "remediator.settings" -}}
{{- $own := dict
  "server" (dict "port" 8080)
  "store" (dict "url" "sqlite:///var/lib/remediator/remediator.db")
  "policies" (dict "dir" (include "remediator.policiesDir" .))
}}
{{- if .Values.store.url }}
{{- $_ := set $own "store" (dict "url" .Values.store.url) }}
{{- else if .Values.store.existingSecret }}
{{- $_ := set $own "store" (dict "url" "${REMEDIATOR_STORE_URL}") }}
{{- end }}
{{- if or .Values.existingSecret .Values.store.existingSecret }}
{{- $_ := set $own "secrets_dir" "/run/secrets/remediator" }}
{{- end }}
{{- $defaults := dict "server" (dict "host" "0.0.0.0") }}
{{- toYaml (mergeOverwrite $defaults (deepCopy .Values.settings) $own) }}
{{- end }}

{{/* The rules of the actions in use: {"cluster": bool, "rules": […]}. */}}
{{- define "remediator.rules" -}}
{{- $known := .Files.Get "files/permissions.yaml" | fromYaml }}
{{- $rules := list }}
{{- $cluster := false }}
{{- range .Values.rbac.actions }}
{{- if not (hasKey $known .) }}
{{- fail (printf "rbac.actions: no action or check is named %q; there are: %s" . (keys $known | sortAlpha | join ", ")) }}
{{- end }}
{{- $one := get $known . }}
{{- $rules = concat $rules $one.rules }}
{{- $cluster = or $cluster $one.cluster }}
{{- end }}
{{- $rules = concat $rules .Values.rbac.extraRules }}
{{- dict "cluster" $cluster "rules" (uniq $rules) | toJson }}
{{- end }}
